"""Use a trained model: text to image and instruction editing, in three lines.

from qi2.pipeline import Pipeline
pipe = Pipeline.load("runs/tiny/champion")
pipe.generate(["a red circle left of a blue star on white"], seeds=[0])[0].save("x.png")
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml
from PIL import Image
from torch import Tensor

from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.core.rng import generator
from qi2.models.condition import ConditionEncoder, fit_reference
from qi2.models.config import SamplerConfig
from qi2.models.mmdit import MMDiT
from qi2.models.sampler import sample
from qi2.models.sequence import Prefix, collate
from qi2.models.vae import VAE
from qi2.training.fit import to_tensor

STUDENT = "distill"
LINE = ("distill", "rlhf", "sft", "continual", "pretrain")


def find_champion(root: Path = Path("runs")) -> Path:
    """The newest promoted model under ``runs/``. Raises QI2Error when none was promoted yet."""
    found = sorted(root.glob("*/champion/champion.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise QI2Error(f"no promoted model under {root.resolve()}; train one with `make run`, or name a folder with --model, e.g. runs/tiny")
    return found[-1].parent


@dataclass
class Pipeline:
    """Condition encoder, MMDiT and VAE of one run or one registered model."""

    encoder: ConditionEncoder
    model: MMDiT
    vae: VAE
    sampler: SamplerConfig
    size: int  # pixels of the side that the model was last trained at

    @staticmethod
    def load(folder: str | Path | None = None, stage: str | None = None) -> "Pipeline":
        """Load ``runs/SCALE``, or a registered bundle of the same layout; without a folder, the newest champion.

        ``stage`` names which model (distill, rlhf, sft ...); the last of the line that exists by default.
        """
        folder = Path(folder) if folder else find_champion()
        name = stage or next((name for name in LINE if (folder / name / "model.safetensors").exists()), None)
        if name is None:
            raise QI2Error(f"{folder} holds no trained model; choose runs/SCALE or runs/SCALE/champion")
        recipe = _recipe(folder)
        settings = load(SamplerConfig, [recipe.get("sampler", {})])
        if name == STUDENT:
            settings = replace(settings, steps=settings.few_steps, shift=settings.few_shift, guidance=1.0, edit_guidance=1.0)
        size = max(recipe.get("encode", {}).get("sizes", [256]))
        return Pipeline(ConditionEncoder.load(folder / "standins" / "vlm"), MMDiT.load(folder / name), VAE.load(folder / "vae"), settings, size)

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], size: int | None = None, steps: int | None = None, guidance: float | None = None
    ) -> list[Image.Image]:
        """One image per prompt and seed, ``size`` pixels square."""
        side = self._side(size)
        return self._draw(prompts, [[] for _ in prompts], self._noise(seeds, side, side), steps, self.sampler.guidance if guidance is None else guidance)

    def edit(
        self, prompts: Sequence[str], images: Sequence[Sequence[Image.Image]], seeds: Sequence[int], size: int | None = None,
        steps: int | None = None, guidance: float | None = None,
    ) -> list[Image.Image]:  # fmt: skip
        """One image per instruction and its one or more reference images; the last reference gives the shape."""
        side = self._side(size)
        fitted = [[fit_reference(image, side * side) for image in group] for group in images]
        if not all(fitted):
            raise QI2Error("every instruction needs at least one reference image")
        strength = self.sampler.edit_guidance if guidance is None else guidance
        edited = []
        for prompt, group, seed in zip(prompts, fitted, seeds, strict=True):
            noise = self._noise([seed], group[-1].height, group[-1].width)
            edited += self._draw([prompt], [group], noise, steps, strength)
        return edited

    def _side(self, size: int | None) -> int:
        side = size or self.size
        if side % 32:
            raise QI2Error(f"size {side} is not a multiple of 32 pixels; try {round(side / 32) * 32 or 32}")
        return side

    def _noise(self, seeds: Sequence[int], height: int, width: int) -> Tensor:
        """Initial noise (B, 64, height / 16, width / 16), each drawn from its own seed, so a batch changes nothing."""
        size = (self.model.config.latent_channels, height // 16, width // 16)
        return torch.stack([torch.randn(size, generator=generator(seed, "noise", 0)) for seed in seeds])

    @torch.no_grad()
    def _draw(self, prompts: Sequence[str], references: list[list[Image.Image]], noise: Tensor, steps: int | None, guidance: float) -> list[Image.Image]:
        encoded = self.encoder.encode(list(prompts), references)
        latents = [[self.vae.encode(to_tensor([image]))[0] for image in group] for group in references]
        prefix = self.model.encode_condition(collate(encoded, latents))
        unconditional = self._unconditional(len(prompts)) if guidance != 1 else None
        result = sample(self.model, noise, prefix, unconditional, steps or self.sampler.steps, guidance, self.sampler.shift)
        pixels = ((self.vae.decode(result) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return [Image.fromarray(image) for image in pixels]

    def _unconditional(self, n: int) -> Prefix:
        return self.model.encode_condition(collate(self.encoder.encode([""], [[]]), [[]])).repeat(n)


def _recipe(folder: Path) -> dict[str, dict]:
    """The run's resolved configuration: beside a bundle, or in conf/resolved for a folder of runs/."""
    for path in (folder / "recipe.yaml", Path("conf") / "resolved" / f"{folder.name}.yaml"):
        if path.exists():
            return yaml.safe_load(path.read_text())  # type: ignore[no-any-return]
    return {}
