"""Samplers: Euler on the flow's ODE with classifier-free guidance, and few-step re-noising for distilled students."""

import torch
from torch import Tensor

from qi2.models import flow
from qi2.models.mmdit import MMDiT, Prefix


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


@torch.no_grad()
def sample_renoised(model: MMDiT, noises: list[Tensor], prefix: Prefix, shift: float = 1.0) -> Tensor:
    """Few-step sampling of a student: predict the clean state, add fresh noise, repeat (DMD2's multi-step form).

    noises: one tensor (B, 64, h, w) per step; len(noises) network evaluations, no guidance.
    """
    times = schedule(len(noises), shift)[:-1]
    x = noises[0]
    for i, (t, noise) in enumerate(zip(times, noises, strict=True)):
        x = noise if i == 0 else flow.interpolate(x, noise, t.expand(len(noise)))
        x = flow.to_x0(x, model(x, t.expand(len(x)), prefix), t.expand(len(x)))
    return x
