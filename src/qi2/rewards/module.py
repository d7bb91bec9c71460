"""Training of one reward model on judgements: Bradley-Terry with ties, or regression on scores, with centring (report section 4.2)."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from qi2.config import as_dict
from qi2.core import rng
from qi2.objectives.calibration import pairwise_accuracy
from qi2.objectives.preference import bradley_terry_loss, centring_loss, pointwise_loss, preference_loss
from qi2.rewards.config import DimensionConfig, RewardsConfig
from qi2.rewards.data import Pool
from qi2.rewards.heads import RewardModel, Scores
from qi2.rewards.tower import ADAPTER
from qi2.training.step_module import StepModule


class RewardModule(StepModule):
    """Pairs of pictures of one prompt, the preferred one also against pictures of other prompts; or single pictures against their scores."""

    def __init__(self, model: RewardModel, pool: Pool, config: RewardsConfig, seed: int) -> None:
        self.name = model.config.dimension
        self.dimension: DimensionConfig = getattr(config, self.name)
        super().__init__(self.dimension.steps)
        self.model, self.pool, self.config, self.seed = model, pool, config, seed
        self.middle, self.spread = float(pool.labels.mean()), max(float(pool.labels.std(correction=0)), 1e-6)

    def facts(self) -> dict[str, Any]:
        return {"seed": self.seed, "rewards": as_dict(self.config)}

    def batch(self, step: int) -> dict[str, Tensor]:
        draw = rng.numpy_rng(self.seed, f"rewards/{self.name}/batch", step)
        rows = draw.integers(len(self.pool), size=self.dimension.batch_size).tolist()
        inputs = self.pool.batch(rows)
        noise = rng.generator(self.seed, f"rewards/{self.name}/soften", step)
        images = soften(inputs["images"], self.config.blur, self.config.noise, noise)
        return inputs | {"images": images, "labels": self.pool.labels[rows]}

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        slots, labels = self.model.look(batch["images"]), batch["labels"]
        compared = self.config.others if self.pool.paired and self.model.needs.prompt else 0
        slots = torch.cat([slots, *(slots[:, :1].roll(k + 1, 0) for k in range(compared))], 1)
        source = self.model.look(batch["source"]) if "source" in batch else None
        scores: Scores = self.model.head(slots, source, batch.get("prompt"), batch.get("mask"))
        loss = self._judged(scores, labels) if self.pool.paired else pointwise_loss(scores.mean[:, 0], (labels - self.middle) / self.spread)
        self.observe({f"reward/{self.name}/loss": loss.detach()})
        return loss + self.config.center * centring_loss(scores.mean)

    def _judged(self, scores: Scores, labels: Tensor) -> Tensor:
        """Of the pair, and of its preferred picture against those of other prompts."""
        difference, deviation = scores.differences()
        self.observe({f"reward/{self.name}/train_accuracy": pairwise_accuracy(difference.detach(), labels)}, float((labels != 0).sum()))
        loss = preference_loss(difference, labels, self.model.tie, deviation)
        if scores.mean.shape[1] > 2:
            preferred = torch.where(labels < 0, scores.mean[:, 1], scores.mean[:, 0])
            loss = loss + bradley_terry_loss(preferred[:, None], scores.mean[:, 2:])
        return loss

    def configure_optimizers(self) -> Any:
        decay = self.dimension.weight_decay
        optimizer = self.config.optimizer if decay < 0 else replace(self.config.optimizer, weight_decay=decay)
        return self.scheduled(self.model, optimizer, hidden_matrix)


def hidden_matrix(name: str) -> bool:
    """Which matrices Muon takes: those of the tower's and the head's layers. The tower's mergers are large and near the end; adapters have few rows."""
    return ("blocks" in name or name == "head.slots.weight") and "merger" not in name and ADAPTER not in name


def soften(images: Tensor, blur: float, noise: float, generator: torch.Generator) -> Tensor:
    """Every picture (B, R, 3, H, W) mixed with its 3 x 3 mean and covered with noise, both by a random share of their largest strength.

    So mild a change says nothing about the picture: a generated one is always a little soft. All prompts share a noise, of other strengths.
    """
    mix, deviation = torch.rand(2, *images.shape[:2], 1, 1, 1, generator=generator)
    mean = F.avg_pool2d(images.flatten(0, 1), 3, 1, 1, count_include_pad=False).view_as(images)
    grain = torch.randn(images.shape[1:], generator=generator)
    return torch.lerp(images, mean, blur * mix).addcmul_(deviation, grain, value=noise / 127.5).clamp_(-1, 1)
