"""What a reward model is worth: accuracy and calibration on pairs that it has never seen."""

from dataclasses import dataclass

import torch
from torch import Tensor

from qi2.objectives.preference import calibration_error, pairwise_accuracy
from qi2.rewards.data import PairPool
from qi2.rewards.heads import RewardModel

BATCH = 128


@dataclass(frozen=True)
class Scores:
    """Raw scores of N pairs, each (N,)."""

    better: Tensor
    worse: Tensor


@torch.inference_mode()
def score_pool(model: RewardModel, pool: PairPool) -> Scores:
    """Both pictures of every pair."""
    device = next(model.head.parameters()).device
    parts = []
    for start in range(0, len(pool), BATCH):
        inputs = pool.batch(range(start, min(start + BATCH, len(pool))))
        parts.append(model(**{name: value.to(device) for name, value in inputs.items()}).float().cpu())
    scores = torch.cat(parts)
    return Scores(scores[:, 0], scores[:, 1])


def figures(name: str, scores: Scores) -> dict[str, float]:
    """Flat metrics of a reward on held-out pairs."""
    return {
        f"reward/{name}/accuracy": pairwise_accuracy(scores.better, scores.worse),
        f"reward/{name}/n": float(len(scores.better)),
        f"reward/{name}/calibration_error": calibration_error(scores.better, scores.worse),
    }
