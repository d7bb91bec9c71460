"""Flow-matching training of the MMDiT on a mixture of T2I and TI2I (report section 4.1)."""

from typing import Any

import torch
from torch import Tensor

from qi2.config import as_dict
from qi2.core import rng
from qi2.mmdit.config import PhaseConfig
from qi2.models import flow
from qi2.models.mmdit import MMDiT
from qi2.training.encoded import EncodedSet
from qi2.training.mixture import Mixture, Part, in_blocks, supervised_loss
from qi2.training.step_module import StepModule


class MMDiTModule(StepModule):
    """One phase: its stages one after the other, in one run."""

    def __init__(self, model: MMDiT, data: EncodedSet, phase: PhaseConfig, name: str, seed: int) -> None:
        super().__init__(sum(stage.steps for stage in phase.stages))
        self.model, self.data, self.phase, self.name, self.seed = model, data, phase, name, seed
        self.mixtures = [Mixture(data, stage.stage, stage.ti2i_share, phase.kind_weights) for stage in phase.stages]

    def facts(self) -> dict[str, Any]:
        return {"seed": self.seed, "phase": as_dict(self.phase), "mmdit": as_dict(self.model.config)}

    def stage_of(self, step: int) -> tuple[int, float]:
        """Index of the stage that a step belongs to, and how far that stage is, in [0, 1)."""
        for i, stage in enumerate(self.phase.stages):
            if step < stage.steps:
                return i, step / stage.steps
            step -= stage.steps
        raise IndexError(step)

    def batch(self, step: int) -> Part:
        """Samples of the step's stage at one of its sizes."""
        index, _ = self.stage_of(step)
        sizes = self.phase.stages[index].sizes
        draw = rng.numpy_rng(self.seed, f"{self.name}/rows", step)
        size = sizes[int(draw.integers(len(sizes)))]
        return self.mixtures[index].draw(draw, self.phase.batch_size, size, self.phase.dropout)

    def training_step(self, batch: Part, _: int) -> Tensor:
        draw = rng.generator(self.seed, f"{self.name}/noise", self.steps_done)
        loss = supervised_loss(self.model, self.data, batch, self.times(len(batch.samples), draw).to(self.device), draw)
        self.observe({f"train/loss_{batch.task}": loss.detach()})
        return loss

    def times(self, n: int, draw: torch.Generator) -> Tensor:
        """(n,) logit-normal times whose mean moves over the stage."""
        index, done = self.stage_of(self.steps_done)
        start, end = self.phase.stages[index].t_mean
        return flow.logit_normal((n,), start + (end - start) * done, self.phase.stages[index].t_std, draw)

    def configure_optimizers(self) -> Any:
        return self.scheduled(self.model, self.phase.optimizer, in_blocks)
