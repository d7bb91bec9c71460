"""The sampler: Euler steps on the flow's ODE, with classifier-free guidance for many-step models and without it for distilled students."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from qi2.models import flow
from qi2.models.config import Schedule
from qi2.models.mmdit import MMDiT
from qi2.models.sequence import Prefix, Targets

Latents = TypeVar("Latents", Tensor, list[Tensor])
"""Targets of one size (B, 64, h, w), or a list of (64, h, w) of any sizes."""


def times(schedule: Schedule, tokens: Sequence[int]) -> Tensor:
    """Times from 1 (noise) to 0 (data) of targets of so many latent tokens: (steps + 1,), or (steps + 1, B) where they differ.

    With `Schedule.resolution` the shift grows with the tokens (the published scheduler); with ``terminal`` all but the last time are
    stretched so that the last step starts there.
    """
    each = torch.stack([_times(schedule, n) for n in sorted(set(tokens))], dim=1)
    return each[:, 0] if each.shape[1] == 1 else each[:, torch.tensor([sorted(set(tokens)).index(n) for n in tokens])]


def _times(schedule: Schedule, tokens: int) -> Tensor:
    base = torch.tensor([*schedule.base, 0.0]) if schedule.base else torch.linspace(1, 0, schedule.steps + 1)
    shifted = flow.shift_time(base, schedule.shift_of(tokens))
    if schedule.terminal and schedule.steps > 1:
        shifted[:-1] = 1 - (1 - shifted[:-1]) * (1 - schedule.terminal) / (1 - shifted[-2])
    return shifted


class Guided:
    """What the sampler asks: the velocity under a condition, moved away from the unconditional one.

    v = v_u + scale (v_c - v_u), for times inside ``interval`` (Kynkaanniemi et al., 2024) and v_c elsewhere. ``rescale`` in 0..1 brings
    the result's spread back to v_c's (Lin et al., 2024). Both branches go through the network in one pass.
    """

    def __init__(
        self, model: MMDiT, prefix: Prefix, unconditional: Prefix | None = None, scale: float = 1.0, rescale: float = 0.0,
        interval: Sequence[float] = (0.0, 1.0),
    ) -> None:  # fmt: skip
        self.model, self.prefix, self.scale, self.rescale, self.interval = model, prefix, scale, rescale, interval
        self.both = None if unconditional is None or scale == 1 else Prefix.join(prefix, unconditional)

    def __call__(self, x: Latents, t: Tensor) -> Latents:
        """Velocity of x, (B, 64, h, w) or a list of (64, h, w), at times t (B,) or (1,); each sample is guided by its own time."""
        low, high = self.interval
        inside = [low <= time <= high for time in t.tolist()]
        if self.both is None or not any(inside):
            return self.model(x, t, self.prefix)  # type: ignore[no-any-return]
        v: Any = self.model(torch.cat([x, x]) if isinstance(x, Tensor) else [*x, *x], t if len(t) == 1 else torch.cat([t, t]), self.both)
        if isinstance(v, Tensor):
            conditional, unconditional = v.chunk(2)
            guided = self._combine(conditional, unconditional)
            return guided if all(inside) else torch.where(flow.expand(torch.tensor(inside, device=v.device), v), guided, conditional)  # type: ignore[return-value]
        pairs = zip(v[: len(x)], v[len(x) :], inside if len(t) > 1 else inside * len(x), strict=True)
        return [self._combine(a[None], b[None])[0] if guide else a for a, b, guide in pairs]  # type: ignore[return-value]

    def _combine(self, v: Tensor, v_u: Tensor) -> Tensor:
        guided = v_u + self.scale * (v - v_u)
        if not self.rescale:
            return guided
        axes = tuple(range(1, v.dim()))
        return guided * (1 - self.rescale + self.rescale * v.std(axes, keepdim=True) / guided.std(axes, keepdim=True).clamp(min=1e-12))


@torch.no_grad()
def sample(velocity: Callable[[Any, Tensor], Any], noise: Latents, schedule: Schedule, on_step: Callable[[], None] | None = None) -> Latents:
    """Latents from noise, (B, 64, h, w) or a list of (64, h, w), by Euler steps in the noise's precision; ``on_step`` is called after each."""
    x: Any = noise
    steps = times(schedule, Targets(noise).ragged.lengths).to(noise[0].device)
    for now, after in zip(steps[:-1], steps[1:], strict=True):
        v = velocity(x, now.reshape(-1))
        if isinstance(x, Tensor):
            x = x + flow.expand((after - now).reshape(-1), x) * v
        else:
            x = [state + step * change for state, step, change in zip(x, (after - now).expand(len(x)), v, strict=True)]
        if on_step is not None:
            on_step()
    return x  # type: ignore[no-any-return]
