"""Learning from preferences: probabilities of a comparison's outcomes, and the losses that follow from them (report section 4.2).

Scores are real numbers, higher is better; exp(score) is Bradley and Terry's strength, so that a difference of scores is a logit.
A label is 1 where the first of two is preferred, -1 where the second is, 0 where neither is.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NODES = 24  # of the quadrature over uncertain scores


def log_outcomes(difference: Tensor, tie: Tensor | float | None = None, deviation: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities that the first is preferred, that neither is, and that the second is; each of ``difference``'s shape.

    ``tie`` >= 0 is the logit by which the first must be ahead to be preferred in half of all cases (Rao and Kupper 1967; exp(tie) is their
    theta and the k of VideoAlign's BTT); without it there are no ties, whose log-probability is then -inf. The three probabilities sum to 1.
    ``deviation`` is that of a normally distributed difference (HPSv3, EditReward): the probabilities are averaged over it.
    """
    if deviation is not None:
        nodes, weights = (part.to(difference) for part in _quadrature())
        parts = log_outcomes(difference[..., None] + deviation[..., None] * nodes, tie)
        first, equal, second = (torch.logsumexp(part + weights, -1) for part in parts)
        return first, equal, second
    if tie is None:
        return F.logsigmoid(difference), torch.full_like(difference, -torch.inf), F.logsigmoid(-difference)
    tie = torch.as_tensor(tie).to(difference)
    first, second = F.logsigmoid(difference - tie), F.logsigmoid(-difference - tie)
    return first, first + second + torch.expm1(2 * tie).log(), second


def turned_round(outcomes: tuple[Tensor, Tensor, Tensor], share: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of labels of which ``share``, in [0, 0.5], of the decided ones are turned round by mistake; ties stay."""
    first, equal, second = outcomes
    share = torch.as_tensor(share).to(first)
    right, wrong = torch.log1p(-share), share.log()
    return torch.logaddexp(first + right, second + wrong), equal, torch.logaddexp(second + right, first + wrong)


@lru_cache(maxsize=1)
def _quadrature() -> tuple[Tensor, Tensor]:
    """Nodes and log-weights of Gauss and Hermite's rule for the mean over a standard normal variable."""
    nodes, weights = np.polynomial.hermite.hermgauss(NODES)
    return torch.from_numpy(nodes * 2**0.5), torch.from_numpy(np.log(weights / np.pi**0.5))


def preference_loss(difference: Tensor, labels: Tensor, tie: Tensor | float | None = None, deviation: Tensor | None = None) -> Tensor:
    """Mean negative log-probability of the labels, in nats; shapes alike. Without ``tie``, a tie counts as half a win for either side.

    With ``deviation`` it is -log of the mean probability. (The published code of HPSv3 and EditReward takes the mean of -log sigmoid
    instead. That is convex, so it never falls as the deviation grows: no label, however wrong, could teach such a score to be uncertain.)
    """
    first, equal, second = log_outcomes(difference, tie, deviation)
    if tie is None:
        equal = (first + second) / 2
    return -torch.where(labels > 0, first, torch.where(labels < 0, second, equal)).mean()


def bradley_terry_loss(better: Tensor, worse: Tensor) -> Tensor:
    """Mean negative log-probability, in nats, of the better one being preferred; log 2 for equal scores. Shapes broadcast."""
    return F.softplus(worse - better).mean()


def pointwise_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of scores against given ones, both (B,): for tables that score single pictures."""
    return (scores - targets).square().mean()


def centring_loss(scores: Tensor) -> Tensor:
    """Mean squared score: pairs fix differences only, this keeps the scores themselves near zero."""
    return scores.square().mean()
