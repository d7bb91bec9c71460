"""Who writes captions: a Qwen3-VL from a folder or the hub, a served model, or the world's own truth, behind one protocol."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.pretrained import model_source, processor_source
from qi2.core.served import ServedVLM, is_url
from qi2.data.captions.config import CaptionConfig
from qi2.data.captions.schemes import SCHEMES, Task
from qi2.data.filters.models import load_pretrained
from qi2.data.world.scene import Scene

if TYPE_CHECKING:
    import torch

TRUTH = "truth"  # in place of a model's path
IMAGE_PAD = "<|image_pad|>"
PLAIN_CHAT = f"<|im_start|>user\n<|vision_start|>{IMAGE_PAD}<|vision_end|>{{}}<|im_end|>\n<|im_start|>assistant\n"
TOP_P = 0.8  # of sampled answers, as in the settings that Qwen3-VL is published with


@dataclass(frozen=True)
class Request:
    """One caption to be written; ``image`` is there for captioners that read pictures, ``scene`` where the picture's scene is known."""

    id: str
    task: Task
    prompt: str
    facts: str = ""
    image: Image.Image | None = None
    scene: Scene | None = None


class Answer(NamedTuple):
    """``whole`` is false where the answer was cut off at the most tokens."""

    text: str
    whole: bool = True


class Captioner(Protocol):
    """``identity`` changes when the answers may. One that does not read pictures is only asked about rows whose scene is known."""

    identity: str
    reads_pictures: bool

    def answer(self, requests: Sequence[Request], seed: int | None = None) -> list[Answer]:
        """An answer per request: the likeliest one, or with a seed a sampled one."""
        ...


def load_captioner(config: CaptionConfig) -> Captioner:
    """The captioner that the config names."""
    if not config.path:
        raise QI2Error(f"captions.path is empty; give a Qwen3-VL (folder or hub id), URL#MODEL of a served model, or {TRUTH!r} for exact captions of the world")
    if is_url(config.path):
        from qi2.data.captions.served import ServedCaptioner

        return ServedCaptioner(ServedVLM.of(config.path), config)
    return TruthCaptioner() if config.path == TRUTH else QwenCaptioner.load(config.path, config)


class TruthCaptioner:
    """Exact captions from the scene graph."""

    identity = TRUTH
    reads_pictures = False

    def answer(self, requests: Sequence[Request], seed: int | None = None) -> list[Answer]:
        """Raises QI2Error for a language that the world does not speak."""
        return [Answer(SCHEMES[item.task.scheme].truth(item.scene, item.task, item.facts)) for item in requests if item.scene]


class QwenCaptioner:
    """A Qwen3-VL with its tokenizer and image processor; works without torchvision."""

    reads_pictures = True

    def __init__(self, model: Any, tokenizer: Any, processor: Any, config: CaptionConfig, identity: str = "") -> None:
        self.model, self.tokenizer, self.processor, self.config, self.identity = model.eval(), tokenizer, processor, config, identity
        known = self.model.generation_config.eos_token_id
        own = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]
        self.ends = sorted({one for one in (*own, *(known if isinstance(known, list) else [known])) if one is not None})

    @classmethod
    def load(cls, path: str | Path, config: CaptionConfig) -> "QwenCaptioner":
        """Load a folder (its pointer file is followed) or a hub id; raises QI2Error when there is no such model."""
        from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        source, place = model_source(path), processor_source(path)
        load = partial(load_pretrained, what="captioner, a Qwen3-VL,", key="captions.path")
        model = load(partial(Qwen3VLForConditionalGeneration.from_pretrained, dtype="auto"), source).to(config.device)
        processor = load(Qwen2VLImageProcessorPil.from_pretrained, place)
        least, most = processor.size["shortest_edge"], min(processor.size["longest_edge"], config.max_pixels)
        processor.size = {"shortest_edge": min(least, most), "longest_edge": most}  # both are areas in this processor
        return cls(model, load(AutoTokenizer.from_pretrained, place), processor, config, f"{source} {_state(Path(source))}")

    def answer(self, requests: Sequence[Request], seed: int | None = None) -> list[Answer]:
        """Greedy answers in one batch; with a seed sampled ones, which then depend on the batch too."""
        import torch

        inputs = self.batch(requests)
        with torch.inference_mode(), _seeded(seed, self.model.device):
            ids = self.model.generate(**inputs, generation_config=self._generation(sampled=seed is not None))
        return [self._answer(row) for row in ids[:, inputs["input_ids"].shape[1] :].tolist()]

    def batch(self, requests: Sequence[Request]) -> dict[str, "torch.Tensor"]:
        """Model inputs, padded on the left so that every answer starts right after its prompt."""
        pixels = self.processor(images=[item.image for item in requests], return_tensors="pt")
        slots = (pixels["image_grid_thw"].prod(1) // self.processor.merge_size**2).tolist()
        texts = [self.chat(item.prompt).replace(IMAGE_PAD, IMAGE_PAD * n) for item, n in zip(requests, slots, strict=True)]
        tokens = self.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        kinds = (tokens["input_ids"] == self.model.config.image_token_id).int()
        inputs = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"], "mm_token_type_ids": kinds}
        inputs |= {name: pixels[name] for name in ("pixel_values", "image_grid_thw")}
        return {name: value.to(self.model.device) for name, value in inputs.items()}

    def chat(self, prompt: str) -> str:
        """One turn of the model's own chat template, or of Qwen's plain format where it has none."""
        if not self.tokenizer.chat_template:
            return PLAIN_CHAT.format(prompt)
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        return str(self.tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True))

    def _generation(self, sampled: bool) -> Any:
        from transformers import GenerationConfig

        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.ends[0]
        ways = {"do_sample": True, "temperature": self.config.temperature, "top_p": TOP_P} if sampled else {"do_sample": False}
        return GenerationConfig(max_new_tokens=self.config.max_tokens, eos_token_id=self.ends, pad_token_id=pad, **ways)

    def _answer(self, ids: list[int]) -> Answer:
        end = next((i for i, one in enumerate(ids) if one in self.ends), None)
        return Answer(self.tokenizer.decode(ids[:end], skip_special_tokens=True).strip(), end is not None)


@contextmanager
def _seeded(seed: int | None, device: Any) -> Iterator[None]:
    """torch's generators at a seed for the length of the block; without one nothing is touched."""
    import torch

    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _state(folder: Path) -> str:
    """A digest of a model folder's files by name, size and time, so that a model trained anew is another one; of a hub id nothing."""
    files = sorted(folder.rglob("*")) if folder.is_dir() else []
    known = [f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files if path.is_file()]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16] if known else ""
