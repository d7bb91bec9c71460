"""Whether a step's gradients may change the weights: clipping (report Table 2), non-finite values, spikes.

The norm is that of the gradient over all processes, so that all of them decide alike: one that is not finite on any process is not finite
on all. Where an update is refused its gradients are dropped, and neither weights nor the optimiser's moments see them.
"""

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.training.config import OptimizerConfig


class NotFinite(QI2Error):
    """Too many non-finite gradients in a row."""


class Guard:
    """Watches the gradient norms of one optimiser."""

    def __init__(self, config: OptimizerConfig, bad_steps: int) -> None:
        self.config, self.bad_steps = config, bad_steps
        self.recent: deque[float] = deque(maxlen=config.spike_window)
        self.bad, self.spikes, self.in_a_row = 0, 0, 0

    def __call__(self, parameters: Iterable[Tensor]) -> float:
        """Clip the gradients, or drop them; returns their norm before that.

        Raises NotFinite after ``bad_steps`` non-finite ones in a row.
        """
        found = [p for p in parameters if p.grad is not None]
        norm = float(_whole(torch.nn.utils.clip_grad_norm_(found, self.config.clip if self.config.clip > 0 else math.inf)))
        if not math.isfinite(norm):
            self.bad, self.in_a_row = self.bad + 1, self.in_a_row + 1
            _drop(found)
            if self.in_a_row >= self.bad_steps:
                raise NotFinite(f"the gradient was not finite {self.in_a_row} times in a row; lower the learning rate, or look at the samples")
            return norm
        self.in_a_row = 0
        if self._is_spike(norm):
            self.spikes += 1
            _drop(found)
        self.recent.append(norm)
        return norm

    def _is_spike(self, norm: float) -> bool:
        if not self.config.spike_sigma or len(self.recent) < self.config.spike_window:
            return False
        mean = sum(self.recent) / len(self.recent)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in self.recent) / len(self.recent))
        return norm > mean + self.config.spike_sigma * deviation

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"recent": list(self.recent), "bad": self.bad, "spikes": self.spikes, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.recent.extend(state["recent"])
        self.bad, self.spikes, self.in_a_row = state["bad"], state["spikes"], state["in_a_row"]


def _whole(norm: Tensor) -> Tensor:
    """The norm over all shards."""
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def _drop(parameters: list[Tensor]) -> None:
    for p in parameters:
        p.grad = None
