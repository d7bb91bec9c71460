"""Latents of a batch, one tensor where all have one size, else a list; and the random numbers of its samples."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from qi2.core import rng
from qi2.models import flow

Latents = Tensor | list[Tensor]
"""(B, 64, h, w), or a list of (64, h, w) of several sizes."""


def stack(latents: Sequence[Tensor]) -> Latents:
    """A tensor where all have one shape."""
    return torch.stack(list(latents)) if len({x.shape for x in latents}) == 1 else list(latents)


def each(function: Callable[..., Tensor], *values: Latents) -> Any:
    """A function of batches, on all samples at once where they have one size, else on one after the other."""
    if all(isinstance(value, Tensor) for value in values):
        return function(*values)
    return [function(*(value[i][None] for value in values))[0] for i in range(len(values[0]))]


class Draws:
    """A stream of random numbers for every sample, keyed by its number: the same in whatever batch and process it comes."""

    def __init__(self, seed: int, purpose: str, numbers: Iterable[int]) -> None:
        self.streams = [rng.generator(seed, purpose, int(number)) for number in numbers]

    def normal(self, shapes: Sequence[torch.Size], device: torch.device) -> Latents:
        """Noise of these shapes (64, h, w)."""
        return stack([torch.randn(shape, generator=stream).to(device) for shape, stream in zip(shapes, self.streams, strict=True)])

    def logit_normal(self, mean: float, std: float) -> Tensor:
        """Times (B,)."""
        return torch.cat([flow.logit_normal((1,), mean, std, stream) for stream in self.streams])

    def uniform(self) -> Tensor:
        """(B,) in [0, 1)."""
        return torch.cat([torch.rand(1, generator=stream) for stream in self.streams])
