"""Draws a suite with a model: conditions are encoded once and shared by all models, the noise belongs to the item.

Nothing here touches global random state, gradients or a training data loader, so evaluation inside training cannot move it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qi2.core.progress import Progress
from qi2.core.rng import generator
from qi2.evaluation.models import Contender
from qi2.models.condition import ConditionEncoder, fit_reference
from qi2.models.mmdit import MMDiT
from qi2.models.pixels import to_images, to_tensor
from qi2.models.sampler import Guided, sample
from qi2.models.sequence import EncodedPrompt, collate
from qi2.models.vae import VAE, over_white


@dataclass
class EncodedSuite:
    """A suite ready for any model: encoded prompts, reference latents (each (64, h, w)) and noise seeds, item by item."""

    prompts: list[EncodedPrompt]
    references: list[list[Tensor]]
    noise_seeds: list[int]
    empty: EncodedPrompt  # the unconditional branch: no text, no references
    size: int  # pixels of a square target's side; an edit has the shape of its last reference

    def __len__(self) -> int:
        return len(self.prompts)

    def shape(self, index: int, channels: int) -> tuple[int, int, int]:
        """Of an item's latents."""
        height, width = self.references[index][-1].shape[-2:] if self.references[index] else (self.size // 16,) * 2
        return channels, height, width


@torch.no_grad()
def encode_suite(encoder: ConditionEncoder, vae: VAE, prompts: list[str], references: list[list[Image.Image]], seeds: list[int], size: int) -> EncodedSuite:
    """Encode every prompt with its reference images, resized as in training to the area of ``size`` x ``size``."""
    channels, place = vae.cfg.image_channels, vae.latent_mean.device
    fitted = [[fit_reference(image, size * size, channels == 4) for image in group] for group in references]
    latents = [[vae.encode(to_tensor([image], channels).to(place))[0] for image in group] for group in fitted]
    return EncodedSuite(encoder.encode(prompts, fitted), latents, seeds, encoder.encode([""], [[]])[0], size)


@dataclass
class Drawing(Dataset[list[Image.Image]]):
    """The pictures of a suite by a model, batch by batch."""

    model: MMDiT
    contender: Contender
    suite: EncodedSuite
    vae: VAE
    batch: int

    def __len__(self) -> int:
        return -(-len(self.suite) // self.batch)

    @torch.no_grad()
    def __getitem__(self, index: int) -> list[Image.Image]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        items = range(index * self.batch, min((index + 1) * self.batch, len(self.suite)))
        clean = _latents(self.model, self.contender, self.suite, items)
        decoded = [self.vae.decode(clean)] if isinstance(clean, Tensor) else [self.vae.decode(one[None]) for one in clean]
        return [picture for pixels in decoded for picture in to_images(over_white(pixels))]


def batches(drawing: Drawing, workers: int = 0) -> Iterator[list[Image.Image]]:
    """The batches one after another, in the suite's order; by ``workers`` processes, or in this one where there are none."""
    context = "fork" if workers else None
    return iter(DataLoader(drawing, batch_size=None, collate_fn=list, generator=torch.Generator(), num_workers=workers, multiprocessing_context=context))


def draw(drawing: Drawing, workers: int = 0) -> list[Image.Image]:
    """One picture per item, in the suite's order."""
    pictures: list[Image.Image] = []
    with Progress(f"draw {drawing.contender.name}", len(drawing.suite), "picture") as progress:
        for part in batches(drawing, workers):
            pictures += part
            progress.update(len(part))
    return pictures


def _latents(model: MMDiT, contender: Contender, suite: EncodedSuite, items: range) -> Tensor | list[Tensor]:
    """(B, 64, h, w), or a list of (64, h, w) where the items differ in shape."""
    guidance = contender.edit_guidance if any(suite.references) else contender.guidance
    prefix = model.encode_condition(collate([suite.prompts[i] for i in items], [suite.references[i] for i in items]))
    unconditional = None
    if guidance != 1:
        unconditional = model.encode_condition(collate([suite.empty], [[]])).repeat(len(items))
    velocity = Guided(model, prefix, unconditional, guidance, contender.rescale, contender.interval)
    noise = _noise(suite, items, model.config.latent_channels, model.proj_out.weight.device)
    same = len({x.shape for x in noise}) == 1
    return sample(velocity, torch.stack(noise), contender.schedule) if same else sample(velocity, noise, contender.schedule)


def _noise(suite: EncodedSuite, items: range, channels: int, place: torch.device) -> list[Tensor]:
    return [torch.randn(suite.shape(i, channels), generator=generator(suite.noise_seeds[i], "noise", 0)).to(place) for i in items]
