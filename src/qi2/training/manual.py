"""Methods that make several optimiser updates per training step (RL on one rollout, a student and its fake score)."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from qi2.training.share import Share
from qi2.training.step_module import StepModule


class ManualModule(StepModule):
    """A `StepModule` that calls `update` itself, and `advance` once at the end of each step.

    It gets its share of a step's batch whole; a method that `shards` cuts it into ``engine.accumulate`` micro-batches for `update_all`.
    """

    def __init__(self, total_steps: int) -> None:
        super().__init__(total_steps)
        self.automatic_optimization = False

    def setup(self, stage: str) -> None:
        self.share = Share(self.trainer.global_rank, self.trainer.world_size)

    def update(self, loss: Tensor, index: int = 0) -> None:
        """One update of optimiser ``index``, its gradients clipped and watched."""
        self.update_all([loss], index)

    def update_all(self, losses: Iterable[Tensor], index: int = 0) -> None:
        """The same for the sum of losses, each of which is made only when the one before has given its gradients and its memory back."""
        optimizers: Any = self.optimizers()
        optimizer = optimizers[index] if isinstance(optimizers, list) else optimizers
        optimizer.zero_grad()
        for loss in losses:
            self.manual_backward(loss)
        self.watch(optimizer, index)
        optimizer.step()

    def advance(self, *indices: int) -> None:
        """Move the learning rates of these optimisers one step on, or of all."""
        found: Any = self.lr_schedulers()
        schedulers = found if isinstance(found, list) else [found]
        for index in indices or range(len(schedulers)):
            schedulers[index].step()
