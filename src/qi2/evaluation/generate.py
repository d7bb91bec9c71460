"""Draws a suite with a model: conditions are encoded once and shared by all models, the noise belongs to the item.

Nothing here touches global random state, gradients or a training data loader, so evaluation inside training cannot move it.
"""

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
    size: int  # pixels of the square target

    def __len__(self) -> int:
        return len(self.prompts)


@torch.no_grad()
def encode_suite(encoder: ConditionEncoder, vae: VAE, prompts: list[str], references: list[list[Image.Image]], seeds: list[int], size: int) -> EncodedSuite:
    """Encode every prompt with its reference images, resized as in training."""
    fitted = [[fit_reference(image, size * size) for image in group] for group in references]
    encoded = encoder.encode(["", *prompts], [[], *fitted])
    latents = [[vae.encode(to_tensor([image]))[0] for image in group] for group in fitted]
    return EncodedSuite(encoded[1:], latents, seeds, encoded[0], size)


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
        return to_images(over_white(self.vae.decode(_latents(self.model, self.contender, self.suite, items))))


def draw(drawing: Drawing, workers: int = 0) -> list[Image.Image]:
    """One picture per item, in the suite's order; by ``workers`` processes, or in this one where there are none."""
    context = "fork" if workers else None
    loader = DataLoader(drawing, batch_size=None, collate_fn=list, generator=torch.Generator(), num_workers=workers, multiprocessing_context=context)
    pictures: list[Image.Image] = []
    with Progress(f"evaluate {drawing.contender.name}", len(drawing.suite), "image") as progress:
        for part in loader:
            pictures += part
            progress.update(len(part))
    return pictures


def _latents(model: MMDiT, contender: Contender, suite: EncodedSuite, items: range) -> Tensor:
    guidance = contender.edit_guidance if any(suite.references) else contender.guidance
    prefix = model.encode_condition(collate([suite.prompts[i] for i in items], [suite.references[i] for i in items]))
    unconditional = None
    if guidance != 1:
        unconditional = model.encode_condition(collate([suite.empty], [[]])).repeat(len(items))
    velocity = Guided(model, prefix, unconditional, guidance, contender.rescale, contender.interval)
    return sample(velocity, _noise(suite, items, model.config.latent_channels), contender.schedule)


def _noise(suite: EncodedSuite, items: range, channels: int) -> Tensor:
    shape = (channels, suite.size // 16, suite.size // 16)
    return torch.stack([torch.randn(shape, generator=generator(suite.noise_seeds[i], "noise", 0)) for i in items])
