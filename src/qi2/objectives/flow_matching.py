"""Flow matching (Lipman et al., 2023; report section 4.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from qi2.models import flow


def flow_matching_losses(velocity: Tensor | Sequence[Tensor], x0: Tensor | Sequence[Tensor], noise: Tensor | Sequence[Tensor]) -> Tensor:
    """Mean squared error of the predicted velocity, per sample (B,). Each is (B, 64, h, w), or a list of (64, h, w) of any sizes."""
    if isinstance(velocity, Tensor) and isinstance(x0, Tensor) and isinstance(noise, Tensor):
        return (velocity - flow.velocity(x0, noise)).square().flatten(1).mean(1)
    return torch.stack([(v - flow.velocity(x, n)).square().mean() for v, x, n in zip(velocity, x0, noise, strict=True)])


def flow_matching_loss(velocity: Tensor | Sequence[Tensor], x0: Tensor | Sequence[Tensor], noise: Tensor | Sequence[Tensor]) -> Tensor:
    """The mean of `flow_matching_losses`, a scalar: samples count equally, whatever their sizes."""
    return flow_matching_losses(velocity, x0, noise).mean()
