"""Learning from preference pairs: Bradley-Terry's loss, and how far its probabilities and the scores' scale can be trusted.

Scores are real numbers, higher is better; exp(score) is Bradley and Terry's strength, so a difference of scores is a logit.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def bradley_terry_loss(better: Tensor, worse: Tensor) -> Tensor:
    """Mean negative log-probability, in nats, of the better one being preferred; log 2 for equal scores. Shapes broadcast."""
    return F.softplus(worse - better).mean()


def centring_loss(scores: Tensor) -> Tensor:
    """Mean squared score: pairs fix differences only, this keeps the scores themselves near zero."""
    return scores.square().mean()


def pairwise_accuracy(better: Tensor, worse: Tensor) -> float:
    """Share of pairs (N,) whose better one scores higher; an equal score counts half."""
    return float(((better > worse).float() + 0.5 * (better == worse).float()).mean())


def calibration_error(better: Tensor, worse: Tensor, bins: int = 10) -> float:
    """Expected calibration error of Bradley-Terry's probabilities on pairs (N,) of scores, 0..0.5.

    A pair's confidence is the probability of the preferred side, 0.5..1; in bins of equal width over that range, the gap between
    mean confidence and the share of right preferences, weighted by the bins' sizes.
    """
    difference = better - worse
    confidence, right = torch.sigmoid(difference.abs()), (difference > 0).float()
    bin_of = ((confidence - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    gaps = [(confidence[bin_of == b].sum() - right[bin_of == b].sum()).abs() for b in range(bins)]
    return float(torch.stack(gaps).sum() / len(difference))


def standardisation(scores: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of scores (N,) on a reference set: the z-score that puts several rewards on one scale.

    The deviation is never below 1e-6, so that a constant reward stays finite.
    """
    return float(scores.mean()), max(float(scores.std(unbiased=False)), 1e-6)
