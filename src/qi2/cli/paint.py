"""A model as an evaluation draws with it: the pipeline, and the hashes of all that decides its pictures."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.pretrained import model_source, processor_source
from qi2.evaluation.store import Store
from qi2.pipeline import LINE, STUDENT, Pipeline, find_champion, read_recipe

WEIGHTS = (".safetensors", ".json", ".txt", ".bin")


class PipelinePainter:
    """One stage of ``runs/SCALE`` or of a bundle, with its own sampler; ``steps`` and ``guidance`` replace that one's."""

    def __init__(
        self, folder: Path | None, stage: str, store: Store, batch: int, device: str, dtype: str, lora: str, steps: int | None, guidance: float | None
    ) -> None:
        folder = Path(folder) if folder else find_champion()
        if not read_recipe(folder):
            raise QI2Error(
                f"{folder} has no recipe.yaml, and there is no conf/resolved/{folder.name}.yaml: how to sample it is unknown; go where it was trained"
            )
        self.pipe = Pipeline.load(folder, stage or None, device, dtype, lora)
        self.pipe.batch = self.batch = batch
        stage = stage or next(name for name in LINE if (folder / name / "model.safetensors").exists())
        self.steps, self.guidance, self.size = steps, guidance, self.pipe.size
        self.name, self.facts = stage, self._facts(folder, stage, store, device, lora)

    def _facts(self, folder: Path, stage: str, store: Store, device: str, lora: str) -> Mapping[str, Any]:
        import torch

        sampler, few = self.pipe.sampler, stage == STUDENT
        return {
            "model": hash_of(folder / stage, store),
            "vae": hash_of(folder / "vae", store),
            "encoder": encoder_hash(folder / "standins" / "vlm", store),
            "lora": store.file_hash(Path(lora)) if lora else "",
            "schedule": asdict(sampler.few(self.steps) if few else sampler.schedule(self.steps)),
            "guidance": [1.0, 1.0] if few else [sampler.guidance, sampler.edit_guidance] if self.guidance is None else [self.guidance] * 2,
            "rescale": [sampler.guidance_rescale, *sampler.guidance_interval],
            "dtype": str(self.pipe.model.proj_out.weight.dtype),
            "device": torch.device(device).type,
            "code": code_hash(),
        }

    def draw(self, prompts: Sequence[str], references: Sequence[Sequence[Image.Image]], seeds: Sequence[int], size: int) -> list[Image.Image]:
        """One picture per prompt; an edit where there are references."""
        if any(references):
            return self.pipe.edit(prompts, references, seeds, size, self.steps, self.guidance)
        return self.pipe.generate(prompts, seeds, size, self.steps, self.guidance)


def hash_of(folder: Path, store: Store) -> str:
    """The hash of a model folder's weights and settings, whatever the folder is called."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in WEIGHTS and path.name in ("config.json", *_weights(folder))]
    return hashlib.sha256("\n".join(f"{path.name} {store.file_hash(path)}" for path in files).encode()).hexdigest()


def encoder_hash(folder: Path, store: Store) -> str:
    """Of the condition encoder with its tokenizer; of a hub id its name, since what it holds is not here to be hashed."""
    found = []
    for source in dict.fromkeys((model_source(folder), processor_source(folder))):
        files = [path for path in sorted(Path(source).iterdir()) if path.suffix in WEIGHTS and path.name != "manifest.json"] if Path(source).is_dir() else []
        found += [f"{path.name} {store.file_hash(path)}" for path in files] or [source]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def code_hash() -> str:
    """Of the code that draws: the networks, the sampler and the pipeline."""
    import qi2.models
    from qi2 import pipeline

    digest = hashlib.sha256()
    for path in (*sorted(Path(qi2.models.__path__[0]).glob("*.py")), Path(pipeline.__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _weights(folder: Path) -> Iterator[str]:
    return (path.name for path in folder.glob("*.safetensors"))
