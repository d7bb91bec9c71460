"""Flow-matching training of the MMDiT on a mixture of T2I and TI2I (report section 4.1)."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from qi2.core import rng
from qi2.mmdit.config import PhaseConfig, StageConfig
from qi2.models import flow
from qi2.models.mmdit import Condition, MMDiT
from qi2.objectives.flow_matching import flow_matching_loss
from qi2.training.encoded import Draw, EncodedSet, Sample
from qi2.training.fit import StepModule


class Mixture:
    """The samples that one stage draws from: the rows of its manifest, T2I and TI2I apart."""

    def __init__(self, data: EncodedSet, stage: StageConfig, weights: dict[str, float]) -> None:
        rows = data.rows[data.rows["stages"].map(lambda stages: stage.stage in stages)]
        t2i, edits = rows[rows["task"] == "t2i"], rows[rows["task"] == "ti2i"]
        self.draws = {"t2i": Draw(t2i, weights), "ti2i": Draw(edits, weights)}
        share = stage.ti2i_share if len(edits) else 0.0
        self.share = share if len(t2i) else 1.0


class MMDiTModule(StepModule):
    """One phase: its stages one after the other, in one run."""

    def __init__(self, model: MMDiT, data: EncodedSet, phase: PhaseConfig, name: str, seed: int) -> None:
        super().__init__(sum(stage.steps for stage in phase.stages))
        self.model, self.data, self.phase, self.name, self.seed = model, data, phase, name, seed
        self.mixtures = [Mixture(data, stage, phase.kind_weights) for stage in phase.stages]

    def stage_of(self, step: int) -> tuple[int, float]:
        """Index of the stage that a step belongs to, and how far that stage is, in [0, 1)."""
        for i, stage in enumerate(self.phase.stages):
            if step < stage.steps:
                return i, step / stage.steps
            step -= stage.steps
        raise IndexError(step)

    def batch(self, step: int) -> list[dict[str, Any]]:
        """Two parts, T2I and TI2I, so that neither is padded to the other's length."""
        index, _ = self.stage_of(step)
        stage, mixture = self.phase.stages[index], self.mixtures[index]
        draw = rng.numpy_rng(self.seed, f"{self.name}/rows", step)
        size = stage.sizes[int(draw.integers(len(stage.sizes)))]
        edits = int(self.phase.batch_size * mixture.share + draw.random())
        counts = {"t2i": self.phase.batch_size - edits, "ti2i": edits}
        parts = []
        for task, n in counts.items():
            if n:
                samples = [self.data.sample(row, size, draw) for row in mixture.draws[task](draw, n)]
                parts.append({"task": task, "samples": samples, "drop": (draw.random(n) < self.phase.dropout).tolist()})
        return parts

    def training_step(self, batch: list[dict[str, Any]], _: int) -> Tensor:
        total = sum(len(part["samples"]) for part in batch)
        loss = torch.zeros(())
        for k, part in enumerate(batch):
            value = self.part_loss(part["samples"], part["drop"], k)
            self.log(f"{self.name}/loss_{part['task']}", value.detach())
            loss = loss + value * (len(part["samples"]) / total)
        return loss

    def part_loss(self, samples: list[Sample], drop: list[bool], part: int) -> Tensor:
        """Mean flow-matching loss over samples and their noisy targets."""
        n = self.phase.targets
        x0 = torch.stack([s.target for s in samples]).repeat_interleave(n, dim=0).to(self.device)
        draw = rng.generator(self.seed, f"{self.name}/noise", self.steps_done, part)
        t = self.times(len(samples), n, draw).to(self.device)
        noise = torch.randn(x0.shape, generator=draw).to(self.device)
        condition = disturb(self.data.condition(samples, drop), self.phase.token_dropout, self.phase.text_noise, draw)
        prefix = self.model.encode_condition(condition).repeat(n)
        return flow_matching_loss(self.model(flow.interpolate(x0, noise, t), t, prefix), x0, noise)

    def times(self, samples: int, n: int, draw: torch.Generator) -> Tensor:
        """(samples * n,) logit-normal times whose mean moves over the stage; the n times of a sample are stratified."""
        index, done = self.stage_of(self.steps_done)
        stage = self.phase.stages[index]
        mean = stage.t_mean[0] + (stage.t_mean[1] - stage.t_mean[0]) * done
        u = (torch.arange(n) + torch.rand(samples, n, generator=draw)) / n
        return torch.sigmoid(mean + stage.t_std * torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4))).flatten()

    def configure_optimizers(self) -> Any:
        return self.scheduled(self.model, self.phase.optimizer, is_hidden)


def disturb(condition: Condition, token_dropout: float, noise: float, draw: torch.Generator) -> Condition:
    """Hide a share of the text tokens and add noise to the others, so that no single token is relied on."""
    if not token_dropout and not noise:
        return condition
    kept = torch.rand(len(condition.text), generator=draw) >= token_dropout
    is_text = condition.is_text.clone()
    is_text[condition.is_text] = kept
    text = condition.text[kept]
    size = text.square().mean(-1, keepdim=True).sqrt()
    return replace(condition, is_text=is_text, text=text + noise * size * torch.randn(text.shape, generator=draw))


def is_hidden(name: str) -> bool:
    """Matrices inside the blocks: what Muon may take."""
    return name.startswith("blocks.")
