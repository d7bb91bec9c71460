"""The sampler: Euler steps on the flow's ODE, with classifier-free guidance for many-step models and without it for distilled students."""

import torch
from torch import Tensor

from qi2.models import flow
from qi2.models.mmdit import MMDiT
from qi2.models.sequence import Prefix


def schedule(steps: int, shift: float) -> Tensor:
    """(steps + 1,) times from 1 (noise) to 0 (data)."""
    return flow.shift_time(torch.linspace(1, 0, steps + 1), shift)


def guided_velocity(model: MMDiT, x: Tensor, t: Tensor, prefix: Prefix, unconditional: Prefix | None, guidance: float) -> Tensor:
    """v_u + guidance (v_c - v_u); without an unconditional prefix or at guidance 1, v_c."""
    v = model(x, t, prefix)
    if unconditional is None or guidance == 1:
        return v
    v_u = model(x, t, unconditional)
    return v_u + guidance * (v - v_u)


@torch.no_grad()
def sample(model: MMDiT, noise: Tensor, prefix: Prefix, unconditional: Prefix | None, steps: int, guidance: float, shift: float = 1.0) -> Tensor:
    """Latents (B, 64, h, w) from noise of that shape, by ``steps`` Euler steps."""
    x, times = noise, schedule(steps, shift)
    for now, after in zip(times[:-1], times[1:], strict=True):
        v = guided_velocity(model, x, now.expand(len(x)), prefix, unconditional, guidance)
        x = x + (after - now) * v
    return x
