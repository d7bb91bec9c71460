"""Use a trained model: text to image and instruction editing, in three lines.

from qi2.pipeline import Pipeline
pipe = Pipeline.load("runs/tiny/champion")
pipe.generate(["a red circle left of a blue star on white"], seeds=[0])[0].save("x.png")
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from PIL import Image
from torch import Tensor

from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.rng import generator
from qi2.models.condition import SLOT, ConditionEncoder, fit_reference
from qi2.models.config import SamplerConfig
from qi2.models.lora import apply_adapter, merge, read_adapter
from qi2.models.mmdit import MMDiT
from qi2.models.pixels import flatten_alpha, to_images, to_tensor
from qi2.models.sampler import Guided, sample
from qi2.models.sequence import collate
from qi2.models.storage import device_of, dtype_of
from qi2.models.vae import VAE

STUDENT = "distill"
LINE = ("distill", "rlhf", "sft", "continual", "pretrain")
MOST_REFERENCES = 10  # of one edit, as the published model was trained
BATCH = 4

Size = int | tuple[int, int]
"""Pixels of a square's side, or width and height; multiples of 32."""


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
    few: bool = False  # whether it is a distilled student, sampled in few steps without guidance
    batch: int = BATCH  # pictures that go through the networks together; a picture does not depend on it beyond rounding
    quiet: bool = False  # show no progress

    @staticmethod
    def load(folder: str | Path | None = None, stage: str | None = None, device: str = "cpu", dtype: str = "", lora: str | Path = "") -> "Pipeline":
        """Load ``runs/SCALE``, or a bundle of the same layout (a registered one, or of ``qi2 convert``); without a folder, the newest champion.

        ``stage`` names which model (distill, rlhf, sft ...); the last of the line that exists by default. ``dtype``: of the MMDiT, e.g.
        ``bfloat16``; as its file has it by default. ``lora``: an adapter of peft or diffusers to merge.
        """
        folder = Path(folder) if folder else find_champion()
        name = stage or next((name for name in LINE if (folder / name / "model.safetensors").exists()), None)
        if name is None:
            raise QI2Error(f"{folder} holds no trained model; choose runs/SCALE, runs/SCALE/champion, or what `qi2 convert` wrote")
        recipe = read_recipe(folder)
        place, number = device_of(device), dtype_of(dtype) if dtype else None
        encoder, model = ConditionEncoder.load(folder / "standins" / "vlm", device), MMDiT.load(folder / name)
        if lora:
            model = merge(apply_adapter(model, read_adapter(Path(lora), model.config.layers)))
        model = model.to(place, number).requires_grad_(False)
        return Pipeline(
            encoder,
            model,
            VAE.load(folder / "vae").to(place),
            load(SamplerConfig, [recipe.get("sampler", {})]),
            max(recipe.get("encode", {}).get("sizes", [256])),
            name == STUDENT,
        )

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], size: Size | None = None, steps: int | None = None, guidance: float | None = None,
        negative: str | None = None,
    ) -> list[Image.Image]:  # fmt: skip
        """One image per prompt and seed. ``negative``: what guidance leads away from; by default the empty prompt."""
        _check_counts(prompts, seeds)
        width, height = self._size(size)
        sizes = [(height, width)] * len(prompts)
        return self._draw(prompts, [[] for _ in prompts], self._noise(seeds, sizes), steps, self.sampler.guidance if guidance is None else guidance, negative)

    def edit(
        self, prompts: Sequence[str], images: Sequence[Sequence[Image.Image]], seeds: Sequence[int], size: Size | None = None,
        steps: int | None = None, guidance: float | None = None, negative: str | None = None,
    ) -> list[Image.Image]:  # fmt: skip
        """One image per instruction and its one to ten reference images, which may have any sizes.

        References are resized to the area of ``size``; the last one gives the output's shape, unless ``size`` has width and height.
        ``negative`` is a prompt for the same references; without it, guidance leads away from what training dropped them for: nothing at all.
        Trap: with the seed and size that a reference was itself generated with, the noise is replayed and the edit fails.
        """
        _check_counts(prompts, seeds, images)
        width, height = self._size(size)
        alpha = self.vae.cfg.image_channels == 4
        fitted = [[fit_reference(image, width * height, alpha) for image in group] for group in images]
        for prompt, group in zip(prompts, fitted, strict=True):
            if not 1 <= len(group) <= MOST_REFERENCES:
                raise QI2Error(f"{prompt!r} comes with {len(group)} reference images; give one to {MOST_REFERENCES}")
        sizes = [(height, width) if isinstance(size, tuple) else (group[-1].height, group[-1].width) for group in fitted]
        strength = self.sampler.edit_guidance if guidance is None else guidance
        return self._draw(prompts, fitted, self._noise(seeds, sizes), steps, strength, negative)

    def paint(self, prompts: Sequence[str], references: Sequence[Sequence[Image.Image]], seeds: Sequence[int]) -> list[Image.Image]:
        """Prompts without and instructions with references together, each with its seed, at the pipeline's own size."""
        made: dict[int, Image.Image] = {}
        for edits in (False, True):
            rows = [i for i, group in enumerate(references) if bool(group) == edits]
            texts, noise = [prompts[i] for i in rows], [seeds[i] for i in rows]
            made |= zip(rows, self.edit(texts, [references[i] for i in rows], noise) if edits else self.generate(texts, noise), strict=True)
        return [made[i] for i in range(len(prompts))]

    def _size(self, size: Size | None) -> tuple[int, int]:
        width, height = size if isinstance(size, tuple) else (size or self.size,) * 2
        for side in (width, height):
            if side % SLOT or side <= 0:
                raise QI2Error(f"size {side} is not a multiple of {SLOT} pixels; try {round(side / SLOT) * SLOT or SLOT}")
        return width, height

    def _noise(self, seeds: Sequence[int], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Initial noise (64, height / 16, width / 16) of each picture, drawn from its own seed, so a batch changes nothing."""
        channels, factor = self.model.config.latent_channels, self.vae.cfg.factor
        return [
            torch.randn(channels, height // factor, width // factor, generator=generator(seed, "noise", 0))
            for seed, (height, width) in zip(seeds, sizes, strict=True)
        ]

    @torch.no_grad()
    def _draw(
        self, prompts: Sequence[str], references: list[list[Image.Image]], noise: list[Tensor], steps: int | None, guidance: float, negative: str | None
    ) -> list[Image.Image]:
        schedule = self.sampler.few(steps) if self.few else self.sampler.schedule(steps)
        images: list[Image.Image] = []
        with Progress("draw", -(-len(prompts) // self.batch) * schedule.steps, "step", self.quiet) as progress:
            for start in range(0, len(prompts), self.batch):
                part = slice(start, start + self.batch)
                latents = [[self._encode(image) for image in group] for group in references[part]]
                velocity = self._guided(prompts[part], references[part], latents, 1.0 if self.few else guidance, negative)
                clean = sample(velocity, [x.to(self.model.proj_out.weight.device) for x in noise[part]], schedule, progress.update)
                images += [to_images(self.vae.decode(x[None]))[0] for x in clean]
        return images

    def _guided(self, prompts: Sequence[str], references: list[list[Image.Image]], latents: list[list[Tensor]], scale: float, negative: str | None) -> Guided:
        prefix = self.model.encode_condition(collate(self.encoder.encode(list(prompts), references), latents))
        if scale == 1:
            return Guided(self.model, prefix)
        if negative is None:
            unconditional = self.model.encode_condition(collate(self.encoder.encode([""], [[]]), [[]])).repeat(len(prompts))
        else:
            unconditional = self.model.encode_condition(collate(self.encoder.encode([negative] * len(prompts), references), latents))
        return Guided(self.model, prefix, unconditional, scale, self.sampler.guidance_rescale, self.sampler.guidance_interval)

    def _encode(self, image: Image.Image) -> Tensor:
        """Latents (64, h, w) of one picture, with as many colour channels as the VAE has."""
        return self.vae.encode(to_tensor([image], self.vae.cfg.image_channels).to(self.vae.latent_mean.device))[0]


def _check_counts(prompts: Sequence[str], seeds: Sequence[int], images: Sequence[object] | None = None) -> None:
    if isinstance(prompts, str):
        raise QI2Error(f"prompts is one text, {prompts!r}; give a list of them")
    for what, given in (("seeds", seeds), ("groups of reference images", images)):
        if given is not None and len(given) != len(prompts):
            raise QI2Error(f"{len(prompts)} prompts came with {len(given)} {what}; give one for each prompt")


def grid(images: Sequence[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    """Images row by row on white, each in a cell of the largest one's size."""
    width, height = max(i.width for i in images), max(i.height for i in images)
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for i, image in enumerate(images):
        page.paste(flatten_alpha(image), ((i % columns) * (width + gap), (i // columns) * (height + gap)))
    return page


def read_recipe(folder: Path) -> dict[str, dict]:
    """The run's resolved configuration: beside a bundle, or in conf/resolved for a folder of runs/."""
    for path in (folder / "recipe.yaml", Path("conf") / "resolved" / f"{folder.name}.yaml"):
        if path.exists():
            return yaml.safe_load(path.read_text())  # type: ignore[no-any-return]
    return {}
