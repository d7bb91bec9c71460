"""Draws any prompts with a model of a run, on noise of their own: what mining, probes and attribution look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from qi2.core.publish import MANIFEST, file_sha256
from qi2.evaluation.generate import Drawing, draw, encode_suite
from qi2.evaluation.models import Contender, contenders
from qi2.evaluation.run_folder import read_json
from qi2.models.condition import ConditionEncoder
from qi2.models.mmdit import MMDiT
from qi2.models.storage import device_of, dtype_of
from qi2.models.vae import VAE


class Painter(Protocol):
    """One picture per prompt; ``references`` are an edit's, none for T2I; a call has one kind of task only. ``name`` and ``weights`` say who drew."""

    name: str
    weights: str

    def __call__(self, prompts: Sequence[str], references: Sequence[Sequence[Image.Image]], seeds: Sequence[int]) -> list[Image.Image]: ...


@dataclass
class ModelPainter:
    """A model sampled as an evaluation samples it (`evaluation.models`)."""

    name: str
    weights: str
    model: MMDiT
    contender: Contender
    encoder: ConditionEncoder
    vae: VAE
    size: int
    batch: int
    workers: int = 0

    @staticmethod
    def load(cfg: Any, runs: Path, name: str, folder: Path | None = None) -> "ModelPainter":
        """Model ``name`` of ``runs`` (``cfg``: its Recipe), or of another ``folder``; in ``evaluate.chain_steps`` steps, a student in its few."""
        place = Path(folder) if folder else Path(runs) / name
        (contender,) = contenders(cfg, {name: place}, cfg.evaluate.chain_steps)
        weights = read_json(place / MANIFEST, {}).get("files", {}).get("model.safetensors") or file_sha256(place / "model.safetensors")
        config, device = cfg.evaluate, device_of(cfg.evaluate.device)
        encoder, vae = ConditionEncoder.load(Path(runs) / "standins" / "vlm", config.device), VAE.load(Path(runs) / "vae").to(device)
        model = MMDiT.load(place).to(device, dtype_of(config.dtype) if config.dtype else None)
        return ModelPainter(name, weights, model, contender, encoder, vae, config.size, config.batch, config.workers)

    def __call__(self, prompts: Sequence[str], references: Sequence[Sequence[Image.Image]], seeds: Sequence[int]) -> list[Image.Image]:
        """Deterministic: a picture depends on the model, the prompt, its references and its seed."""
        if not prompts:
            return []
        suite = encode_suite(self.encoder, self.vae, list(prompts), [list(group) for group in references], list(seeds), self.size)
        return draw(Drawing(self.model, self.contender, suite, self.vae, self.batch), self.workers)
