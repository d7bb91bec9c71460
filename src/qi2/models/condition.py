"""The condition encoder: a frozen Qwen3-VL of transformers (report section 3.2).

One hidden state per text token is used: the output of the last decoder layer before the final norm. The system message is
dropped. At image slots the hidden states are thrown away and the reference's VAE latents take their place (report eq. 1),
2 x 2 latent tokens per slot, because a slot covers 32 px and a latent token 16 px. Works without torchvision.

A stand-in that this line trained says in its config how many of its last text tokens carry what it understood
(``condition_tokens``); only those are used. A real Qwen3-VL says nothing, and all its text tokens are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.core.pretrained import model_source, processor_source
from qi2.models import templates
from qi2.models.pixels import flatten_alpha
from qi2.models.sequence import EncodedPrompt
from qi2.models.storage import device_of, dtype_of
from qi2.models.vision import grids, speed_up, to_patches

SLOT = 32  # pixels per image slot and side
PATCH, FRAMES = 16, 2  # Qwen3-VL's patches: pixels per side, and frames, which a still image fills with copies
CONDITION_TOKENS = "condition_tokens"
MOST_TOKENS = 1 << 16  # of a batch: about 7 GiB beside the weights of the 8B model


def fit_reference(image: Image.Image, area: int, alpha: bool = False) -> Image.Image:
    """Resize to about ``area`` pixels keeping the aspect, both sides multiples of 32: for the VLM and the VAE alike.

    ``alpha``: to RGBA, for a VAE of four channels; the encoder flattens it by itself.
    """
    scale = (area / (image.width * image.height)) ** 0.5
    size = tuple(max(SLOT, round(side * scale / SLOT) * SLOT) for side in image.size)
    plain = image.convert("RGBA") if alpha else flatten_alpha(image)
    return plain if plain.size == size else plain.resize((size[0], size[1]), Image.Resampling.LANCZOS)


class ConditionEncoder:
    """A frozen Qwen3-VL with its tokenizer and image processor."""

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        self.model, self.tokenizer, self.image_processor = model.eval().requires_grad_(False), tokenizer, image_processor
        speed_up(model.model.visual)
        self.width: int = model.config.text_config.hidden_size
        self.vision_width: int = model.config.vision_config.hidden_size
        self.image_token: int = model.config.image_token_id
        self.drop = len(tokenizer(templates.SYSTEM).input_ids)
        self.last: int = getattr(model.config, CONDITION_TOKENS, 0)
        self._before_norm: Tensor | None = None
        self.model.model.language_model.norm.register_forward_pre_hook(self._keep)

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu", dtype: str = "") -> "ConditionEncoder":
        """Load a Qwen3-VL folder or hub id (a pointer file is followed) to a device; ``dtype``, e.g. ``bfloat16``, is its file's by default.

        What the 8B model takes in bf16, by its sizes: 17.5 GB of weights (8.77e9 parameters), and while it reads, per token of the batch with its
        paddings, 8 KiB of residual stream and about 100 KiB inside one of its 36 layers, which follow each other (three times 12288 channels of
        the MLP, queries, keys, values); a patch of the vision tower, a quarter of a token, about 30 KB. One prompt of 1K tokens with ten
        references of 1024 px is 11.3K tokens: 1.1 GiB, 1.2 GB for its 41K patches, and up to 0.25 GB for the mask. `encode` bounds the batch.
        """
        from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        name, processor_name = model_source(path), processor_source(path)
        try:
            model: Any = Qwen3VLForConditionalGeneration.from_pretrained(name, dtype=dtype_of(dtype) if dtype else "auto")
            processor = Qwen2VLImageProcessorPil.from_pretrained(processor_name)
            processor.size = {"shortest_edge": SLOT * SLOT, "longest_edge": 4096 * 4096}  # small references keep their slots
            return cls(model.to(device_of(device)), AutoTokenizer.from_pretrained(processor_name), processor)
        except OSError as error:
            where = name if name == processor_name else f"{name} with its processor in {processor_name}"
            raise QI2Error(f"no Qwen3-VL at {where}: {error}; give a local folder in standins.vlm.path, or leave it empty to train a stand-in") from error

    def _keep(self, module: Any, inputs: tuple[Any, ...]) -> None:
        self._before_norm = inputs[0]

    def batch(self, prompts: list[str], references: list[list[Image.Image]], answers: list[str] | None = None) -> dict[str, Tensor]:
        """Token ids, masks and pixel values of whole conversations (optionally with the assistant's answers), padded right."""
        texts = [templates.conversation(p, len(r)) for p, r in zip(prompts, references, strict=True)]
        if answers is not None:
            texts = [text + answer + "<|im_end|>" for text, answer in zip(texts, answers, strict=True)]
        images = [flatten_alpha(image) for group in references for image in group]
        pixels = self.image_processor(images=images, return_tensors="pt") if images else None
        if pixels is not None:
            texts = _expand_slots(texts, pixels["image_grid_thw"])
        tokens = self.tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
        inputs: dict[str, Tensor] = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        if pixels is None:
            positions = torch.arange(tokens.input_ids.shape[1])
            return inputs | {"position_ids": positions.expand(3, len(texts), -1)}
        kinds = (tokens.input_ids == self.image_token).int()
        return inputs | {"pixel_values": pixels["pixel_values"], "image_grid_thw": pixels["image_grid_thw"], "mm_token_type_ids": kinds}

    @torch.no_grad()
    def encode(self, prompts: list[str], references: list[list[Image.Image]], batch_size: int = 64) -> list[EncodedPrompt]:
        """Encode prompts with their reference images (already through `fit_reference`), in batches of like lengths.

        A batch holds at most ``batch_size`` prompts and about `MOST_TOKENS` tokens with their paddings, but always one prompt.
        """
        order = sorted(range(len(prompts)), key=lambda i: (len(references[i]), len(prompts[i]), i))
        lengths = [len(prompt) + sum(i.width * i.height for i in images) // SLOT**2 for prompt, images in zip(prompts, references, strict=True)]
        encoded: dict[int, EncodedPrompt] = {}
        for chosen in _batches(order, lengths, batch_size):
            for i, sample in zip(chosen, self._encode_batch([prompts[i] for i in chosen], [references[i] for i in chosen]), strict=True):
                encoded[i] = sample
        return [encoded[i] for i in range(len(prompts))]

    def _encode_batch(self, prompts: list[str], references: list[list[Image.Image]]) -> list[EncodedPrompt]:
        inputs = {name: value.to(self.model.device) for name, value in self.batch(prompts, references).items()}
        self.model.model(**inputs, use_cache=False)
        assert self._before_norm is not None
        rows = zip(inputs["input_ids"], inputs["attention_mask"].sum(1).tolist(), self._before_norm, strict=True)
        return [self._sample(ids[self.drop : n], hidden[self.drop : n]) for ids, n, hidden in rows]

    def _sample(self, ids: Tensor, hidden: Tensor) -> EncodedPrompt:
        layout: list[int | None] = []
        is_image = (ids == self.image_token).tolist()
        for i, image in enumerate(is_image):
            if image and not (i and is_image[i - 1]):
                layout.append(None)
            elif not image:
                previous = layout[-1] if layout else None
                layout[len(layout) - (previous is not None) :] = [(previous or 0) + 1]
        text = hidden[ids != self.image_token].float().cpu()
        if self.last:
            text, layout = text[-self.last :], [None] * layout.count(None) + [self.last]
        return EncodedPrompt(text.clone(), layout)

    def vision_features(self, images: Tensor) -> Tensor:
        """Patch features (B, C, H/16, W/16) of images (B, 3, H, W) in [-1, 1], H and W multiples of 32; before the merger. Differentiable in the images.

        They are computed where the images are: the tower goes there.
        """
        batch, _, height, width = images.shape
        rows, columns = height // SLOT, width // SLOT
        pixels = to_patches(images.to(self.model.dtype), PATCH, SLOT // PATCH, FRAMES)
        hidden = self.model.model.visual.to(images.device)(pixels, grids(images, PATCH)).last_hidden_state.float()
        return hidden.view(batch, rows, columns, 2, 2, -1).permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, height // PATCH, width // PATCH)

    @torch.no_grad()
    def answer(self, prompts: list[str], references: list[list[Image.Image]], max_tokens: int = 64) -> list[str]:
        """Greedy answers: the captioner's and the judge's way in."""
        answers = []
        for prompt, images in zip(prompts, references, strict=True):
            inputs = {n: v.to(self.model.device) for n, v in self.batch([prompt], [images]).items() if n != "position_ids"}
            ids = self.model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
            answers.append(self.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
        return answers


def _batches(order: list[int], lengths: list[int], most: int) -> Iterator[list[int]]:
    """Runs of ``order``, each of at most ``most`` prompts and, padded to its longest, `MOST_TOKENS` tokens; lengths are upper bounds (a token per letter)."""
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) == most or (len(batch) + 1) * max(lengths[k] for k in (*batch, i)) > MOST_TOKENS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _expand_slots(texts: list[str], grids: Tensor) -> list[str]:
    slots = iter((grids.prod(1) // 4).tolist())
    expanded = []
    for text in texts:
        head, *rest = text.split(templates.IMAGE_PAD)
        expanded.append(head + "".join(templates.IMAGE_PAD * next(slots) + part for part in rest))
    return expanded
