"""Flow-matching training of the MMDiT on a mixture of T2I and TI2I (report section 4.1)."""

from typing import Any

import torch
from torch import Tensor

from qi2.core import rng
from qi2.mmdit.config import PhaseConfig
from qi2.models import flow
from qi2.models.mmdit import MMDiT
from qi2.objectives.flow_matching import flow_matching_loss
from qi2.training.encoded import EncodedSet
from qi2.training.fit import StepModule
from qi2.training.mixture import Mixture, Part, in_blocks


class MMDiTModule(StepModule):
    """One phase: its stages one after the other, in one run."""

    def __init__(self, model: MMDiT, data: EncodedSet, phase: PhaseConfig, name: str, seed: int) -> None:
        super().__init__(sum(stage.steps for stage in phase.stages))
        self.model, self.data, self.phase, self.name, self.seed = model, data, phase, name, seed
        self.mixtures = [Mixture(data, stage.stage, stage.ti2i_share, phase.kind_weights) for stage in phase.stages]

    def stage_of(self, step: int) -> tuple[int, float]:
        """Index of the stage that a step belongs to, and how far that stage is, in [0, 1)."""
        for i, stage in enumerate(self.phase.stages):
            if step < stage.steps:
                return i, step / stage.steps
            step -= stage.steps
        raise IndexError(step)

    def batch(self, step: int) -> list[Part]:
        """Samples of the step's stage at one of its sizes."""
        index, _ = self.stage_of(step)
        sizes = self.phase.stages[index].sizes
        draw = rng.numpy_rng(self.seed, f"{self.name}/rows", step)
        size = sizes[int(draw.integers(len(sizes)))]
        return self.mixtures[index].draw(draw, self.phase.batch_size, size, self.phase.dropout)

    def training_step(self, batch: list[Part], _: int) -> Tensor:
        total = sum(len(part.samples) for part in batch)
        loss = torch.zeros(())
        for k, part in enumerate(batch):
            value = self.part_loss(part, k)
            self.log(f"{self.name}/loss_{part.task}", value.detach())
            loss = loss + value * (len(part.samples) / total)
        return loss

    def part_loss(self, part: Part, index: int) -> Tensor:
        """Mean flow-matching loss over samples and their noisy targets."""
        n = self.phase.targets
        x0 = torch.stack([s.target for s in part.samples]).repeat_interleave(n, dim=0).to(self.device)
        draw = rng.generator(self.seed, f"{self.name}/noise", self.steps_done, index)
        t = self.times(len(part.samples), n, draw).to(self.device)
        noise = torch.randn(x0.shape, generator=draw).to(self.device)
        prefix = self.model.encode_condition(self.data.condition(part.samples, part.drop)).repeat(n)
        return flow_matching_loss(self.model(flow.interpolate(x0, noise, t), t, prefix), x0, noise)

    def times(self, samples: int, n: int, draw: torch.Generator) -> Tensor:
        """(samples * n,) logit-normal times whose mean moves over the stage; the n times of a sample are stratified."""
        index, done = self.stage_of(self.steps_done)
        stage = self.phase.stages[index]
        mean = stage.t_mean[0] + (stage.t_mean[1] - stage.t_mean[0]) * done
        u = (torch.arange(n) + torch.rand(samples, n, generator=draw)) / n
        return torch.sigmoid(mean + stage.t_std * torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4))).flatten()

    def configure_optimizers(self) -> Any:
        return self.scheduled(self.model, self.phase.optimizer, in_blocks)
