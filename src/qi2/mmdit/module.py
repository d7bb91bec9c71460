"""Flow-matching training of the MMDiT on a mixture of T2I and TI2I (report section 4.1)."""

from typing import Any

from torch import Tensor

from qi2.mmdit.config import PhaseConfig, StageConfig
from qi2.models.mmdit import MMDiT
from qi2.training.data_plan import PlanSettings
from qi2.training.encoded import EncodedSet
from qi2.training.fit import StepModule
from qi2.training.mixture import Mixture, Part, add_noise, by_task, in_blocks, supervised_losses


class MMDiTModule(StepModule):
    """One phase: its stages one after the other, in one run."""

    def __init__(self, model: MMDiT, data: EncodedSet, phase: PhaseConfig, name: str, seed: int) -> None:
        super().__init__(sum(stage.steps for stage in phase.stages))
        self.model, self.data, self.phase, self.name, self.seed = model, data, phase, name, seed
        self.mixtures: list[Mixture] = []
        first = 0  # number of a stage's first sample
        for stage in phase.stages:
            self.mixtures.append(Mixture(data, stage.stage, plan_settings(stage, phase), seed, name, first))
            first += self.mixtures[-1].plan.drawn(stage.steps)

    def stage_of(self, step: int) -> tuple[int, int]:
        """Index of the stage that a step belongs to, and its number in that stage, from 0."""
        for i, stage in enumerate(self.phase.stages):
            if step < stage.steps:
                return i, step
            step -= stage.steps
        raise IndexError(step)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Part:
        """Samples of the step's stage, T2I and TI2I together, at one of its sizes; of ``world`` ranks those of one."""
        index, own = self.stage_of(step)
        return self.mixtures[index].part(own, self.phase.dropout, rank, world)

    def training_step(self, batch: Part, _: int) -> Tensor:
        mean, std = self.times()
        noised = add_noise(batch, mean, std, self.seed, f"{self.name}/noise", self.device)
        losses = supervised_losses(self.model, self.data, batch, noised)
        for task, value in by_task(batch, losses).items():
            self.log(f"{self.name}/loss_{task}", value)
        return losses.mean()

    def times(self) -> tuple[float, float]:
        """Mean and deviation of the logits of this step's times; the mean moves over the stage."""
        index, own = self.stage_of(self.steps_done)
        stage = self.phase.stages[index]
        start, end = stage.t_mean
        return start + (end - start) * own / stage.steps, stage.t_std

    def data_figures(self) -> dict[str, float]:
        """What the phase will draw, stage by stage: `DataPlan.figures`."""
        pairs = zip(self.phase.stages, self.mixtures, strict=True)
        return {f"data/s{stage.stage}/{what}": value for stage, mixture in pairs for what, value in mixture.plan.figures(stage.steps).items()}

    def fingerprints(self) -> list[dict[str, Any]]:
        """What decides the samples of each stage; a run is resumed only on the same."""
        return [mixture.plan.fingerprint() for mixture in self.mixtures]

    def configure_optimizers(self) -> Any:
        return self.scheduled(self.model, self.phase.optimizer, in_blocks)


def plan_settings(stage: StageConfig, phase: PhaseConfig) -> PlanSettings:
    """What the data plan needs of a stage."""
    batches = stage.batch_sizes or [phase.batch_size] * len(stage.sizes)
    return PlanSettings(stage.sizes, batches, stage.ti2i_share, stage.size_weights, phase.kind_weights, phase.mixed)
