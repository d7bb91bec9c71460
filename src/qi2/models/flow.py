"""The convention of time, written once: t = 0 is data, t = 1 is noise (report eq. 5).

x_t = (1 - t) x0 + t noise and velocity = noise - x0, so x0 = x_t - t v and noise = x_t + (1 - t) v.
All functions take tensors of shape (B, ...) and t of shape (B,).
"""

import torch
from torch import Tensor


def expand(t: Tensor, like: Tensor) -> Tensor:
    """(B,) to (B, 1, ..., 1) with as many axes as ``like``."""
    return t.view(-1, *([1] * (like.dim() - 1)))


def interpolate(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t on the straight path from data to noise (report eq. 5)."""
    t = expand(t, x0)
    return (1 - t) * x0 + t * noise


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """dx_t/dt of the straight path."""
    return noise - x0


def to_x0(x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The clean state that a velocity points to."""
    return x_t - expand(t, x_t) * v


def to_noise(x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The noise that a velocity points to."""
    return x_t + (1 - expand(t, x_t)) * v


def shift_time(t: Tensor, shift: float) -> Tensor:
    """Move times towards noise: t' = s t / (1 + (s - 1) t); s = 1 leaves them."""
    return shift * t / (1 + (shift - 1) * t)


def logit_normal(shape: tuple[int, ...], mean: float, std: float, generator: torch.Generator) -> Tensor:
    """Times in (0, 1) whose logit is normal; a larger mean draws noisier times."""
    return torch.sigmoid(mean + std * torch.randn(shape, generator=generator))
