"""Flow-matching training of the MMDiT on a mixture of T2I and TI2I (report section 4.1)."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from qi2.config import as_dict
from qi2.mmdit.config import PhaseConfig, StageConfig
from qi2.mmdit.preview import Preview
from qi2.models.config import MMDiTConfig
from qi2.models.mmdit import MMDiT
from qi2.training.aligner import Aligner
from qi2.training.data_plan import T2I, TI2I, PlanSettings
from qi2.training.encoded import EncodedSet
from qi2.training.mixture import Mixture, Part, add_noise, aligned_losses, in_blocks, shardable, supervised_losses
from qi2.training.scale import anywhere
from qi2.training.share import WHOLE, Share
from qi2.training.step_module import StepModule

BINS = 5  # of the times, in the curves of the loss


class MMDiTModule(StepModule):
    """One phase: its stages one after the other, in one run."""

    shards = True

    def __init__(self, model: MMDiT, data: EncodedSet, phase: PhaseConfig, name: str, seed: int, preview: Preview | None = None) -> None:
        super().__init__(sum(stage.steps for stage in phase.stages))
        self.model, self.data, self.phase, self.name, self.seed = model, data, phase, name, seed
        self.eager = data.online
        self.previews = [preview] if preview else []  # in a list: no part of the module
        self.aligner = aligner(phase, model.config, data, seed)
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

    def batch(self, step: int) -> Part:
        return self.part(step, WHOLE)

    def part(self, step: int, share: Share) -> Part:
        """A share of the step's samples, of its stage and at one of its sizes."""
        index, own = self.stage_of(step)
        return self.mixtures[index].part(own, self.phase.dropout, share)

    def largest_batch(self) -> Part:
        """That of the first step with the most latent tokens to come, of its stage and size."""
        tokens = {}
        for step in self._first_steps():
            index, own = self.stage_of(step)
            plan = self.mixtures[index].plan.step(own)
            tokens[step] = len(plan.rows) * plan.size**2
        return self.part(max(tokens, key=lambda step: tokens[step]), self.share)

    def _first_steps(self) -> list[int]:
        """A few steps of every stage, among which each of its sizes is."""
        found, start = [], 0
        for stage in self.phase.stages:
            found += list(range(start, start + min(stage.steps, 16 * len(stage.sizes))))
            start += stage.steps
        return found

    def training_step(self, batch: Part, _: int) -> Tensor:
        mean, std = self.times()
        noised = add_noise(batch, mean, std, self.seed, f"{self.name}/noise", self.device)
        elsewhere = self.engine.strategy == "fsdp" and anywhere(batch.refers, self.device)
        if self.aligner is None:
            losses = supervised_losses(self.model, self.data, batch, noised, elsewhere)
            self._observe(batch, losses.detach(), noised.t)
            return losses.mean()
        losses, apart = aligned_losses(self.model, self.aligner, self.data, batch, noised, elsewhere)
        self._observe(batch, losses.detach(), noised.t)
        self.observe({"train/loss_alignment": apart.detach().mean()}, len(apart))
        return losses.mean() + self.aligner.weight * apart.mean()

    def _observe(self, batch: Part, losses: Tensor, t: Tensor) -> None:
        """The loss by task, by size, and by the time's bin: ``train/loss_t0.2`` is that of times from 0.2 to 0.4."""
        self.observe({f"train/loss_{batch.size}px": losses.mean()}, len(losses))
        for task in (T2I, TI2I):
            own = torch.tensor([other == task for other in batch.tasks], device=losses.device)
            self.tally.add(f"train/loss_{task}", (losses * own).sum(), own.sum())
        bins = (t * BINS).long().clamp(0, BINS - 1)
        totals, counts = torch.bincount(bins, losses.float(), BINS), torch.bincount(bins, minlength=BINS)
        for i in range(BINS):
            self.tally.add(f"train/loss_t{i / BINS:.1f}", totals[i], counts[i])

    def times(self) -> tuple[float, float]:
        """Mean and deviation of the logits of this step's times; the mean moves over the stage."""
        index, own = self.stage_of(self.steps_done)
        stage = self.phase.stages[index]
        start, end = stage.t_mean
        return start + (end - start) * own / stage.steps, stage.t_std

    def size(self, batch: Part) -> int:
        return len(batch.samples)

    def work(self, batch: Part) -> float:
        """Its tokens, of targets and conditions."""
        return float(self.data.tokens(batch.samples, batch.drop))

    def names(self, batch: Part) -> list[str]:
        return [str(self.data.rows["id"][sample.row]) for sample in batch.samples]

    def facts(self) -> dict[str, Any]:
        """All that decides the weights: the samples of each stage, the phase, the network."""
        plans = {f"s{stage.stage}": mixture.plan.fingerprint() for stage, mixture in zip(self.phase.stages, self.mixtures, strict=True)}
        return {"seed": self.seed, "phase": as_dict(self.phase), "mmdit": as_dict(self.model.config), "data": plans}

    def data_figures(self) -> dict[str, float]:
        """What the phase will draw, stage by stage: `DataPlan.figures`."""
        pairs = zip(self.phase.stages, self.mixtures, strict=True)
        return {f"data/s{stage.stage}/{what}": value for stage, mixture in pairs for what, value in mixture.plan.figures(stage.steps).items()}

    def picture(self) -> Image.Image | None:
        return self.previews[0](self.model) if self.previews else None

    def parts(self) -> list[tuple[nn.Module, list[str]]]:
        own: list[tuple[nn.Module, list[str]]] = [] if self.aligner is None else [(self.aligner, [])]
        return [*own, *shardable(self.model)]

    def configure_optimizers(self) -> Any:
        trained = self.model if self.aligner is None else nn.ModuleDict({"model": self.model, "aligner": self.aligner})
        return self.scheduled(trained, self.phase.optimizer, lambda name: in_blocks(name.removeprefix("model.")))


def aligner(phase: PhaseConfig, model: MMDiTConfig, data: EncodedSet, seed: int) -> Aligner | None:
    """The projector of a phase that aligns hidden states to vision features."""
    if phase.alignment.weight <= 0:
        return None
    features = next(iter(data.features.values())).channels
    return Aligner(phase.alignment, model.layers, model.width, features, seed)


def plan_settings(stage: StageConfig, phase: PhaseConfig) -> PlanSettings:
    """What the data plan needs of a stage."""
    batches = stage.batch_sizes or [phase.batch_size] * len(stage.sizes)
    return PlanSettings(stage.sizes, batches, stage.ti2i_share, stage.size_weights, phase.kind_weights, phase.mixed)
