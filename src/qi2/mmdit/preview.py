"""The same prompts drawn with the same noise again and again while a phase trains: what the loss does not show."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.models.config import SamplerConfig
from qi2.models.mmdit import MMDiT
from qi2.models.pixels import to_images
from qi2.models.sampler import Guided, sample
from qi2.models.vae import VAE
from qi2.training.data_plan import T2I, TI2I
from qi2.training.encoded import EncodedSet, Sample

COUNTS = {T2I: 6, TI2I: 2}
STEPS = 12
FACTOR = 16  # pixels per latent cell


class Preview:
    """Draws a sheet: for each prompt the reference (where it has one), the picture that the data holds, and the model's."""

    def __init__(self, vae: VAE, data: EncodedSet, stage: int, size: int, sampler: SamplerConfig, seed: int) -> None:
        self.vae, self.data, self.sampler, self.seed = vae.requires_grad_(False).eval(), data, sampler, seed
        self.samples = shown(data, stage, size, seed)

    @torch.no_grad()
    def __call__(self, model: MMDiT) -> Image.Image:
        """The sheet of now. Nothing else is touched: noise has a stream of its own."""
        device = model.proj_out.weight.device
        self.vae.to(device)
        made: dict[int, Tensor] = {}
        for task, scale in ((T2I, self.sampler.guidance), (TI2I, self.sampler.edit_guidance)):
            own = [s for s in self.samples if s.task == task]
            if own:
                made |= dict(zip([s.row for s in own], self._draw(model, own, scale, device), strict=True))
        columns = [[*s.references[:1], s.target, made[s.row]] for s in self.samples]
        return _sheet([[to_images(self.vae.decode(x[None].to(device)))[0] for x in column] for column in columns])

    def _draw(self, model: MMDiT, samples: Sequence[Sample], scale: float, device: torch.device) -> list[Tensor]:
        noise = [torch.randn(s.target.shape, generator=rng.generator(self.seed, "preview/noise", s.row)).to(device) for s in samples]
        prefix = model.encode_condition(self.data.condition(samples))
        unconditional = None if scale == 1 else model.encode_condition(self.data.unconditional(1)).repeat(len(samples))
        return list(sample(Guided(model, prefix, unconditional, scale), noise, self.sampler.schedule(STEPS)))


def shown(data: EncodedSet, stage: int, size: int, seed: int) -> list[Sample]:
    """The samples of a sheet, column by column."""
    rows = data.plan_rows(stage, [size], 0.0)
    chosen = [row for task, count in COUNTS.items() for row in _one_per_kind(rows.index, rows.kind, rows.ready[size] & (rows.task == task), count)]
    return [data.sample(row, size, rng.numpy_rng(seed, "preview", row)) for row in chosen]


def drawn(sheet: Image.Image, samples: Sequence[Sample], factor: int = FACTOR) -> list[Image.Image]:
    """The model's pictures on a sheet of these samples: the lowest of every column. ``factor``: pixels per latent cell."""
    shapes = [(sample.target.shape[2] * factor, sample.target.shape[1] * factor) for sample in samples]
    size = max(width for width, _ in shapes), max(height for _, height in shapes)
    if not samples or sheet.width % len(samples) or sheet.width // len(samples) < size[0] or sheet.height < size[1]:
        raise QI2Error(f"a sheet of {sheet.width}x{sheet.height} px does not show these {len(samples)} samples; it was drawn from other data")
    step, rows = sheet.width // len(samples), max(2 + bool(sample.references) for sample in samples)
    top = sheet.height // rows * (rows - 1)
    return [sheet.crop((x * step, top, x * step + width, top + height)) for x, (width, height) in enumerate(shapes)]


def _one_per_kind(index: np.ndarray, kind: np.ndarray, chosen: np.ndarray, count: int) -> list[int]:
    """The first row of every kind, then the second ones, up to ``count``."""
    place = {int(i): int((kind[chosen & (np.arange(len(kind)) < i)] == kind[i]).sum()) for i in np.flatnonzero(chosen)[: 64 * count]}
    return [int(index[i]) for i in sorted(place, key=lambda i: (place[i], i))[:count]]


def _sheet(columns: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Columns side by side, each aligned at the bottom."""
    width, height = max(i.width for c in columns for i in c), max(i.height for c in columns for i in c)
    rows = max(len(column) for column in columns)
    sheet = Image.new("RGB", (width * len(columns), height * rows), "white")
    for x, column in enumerate(columns):
        for y, image in enumerate(column, rows - len(column)):
            sheet.paste(image.convert("RGB"), (x * width, y * height))
    return sheet
