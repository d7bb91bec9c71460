"""How far scores can be trusted: accuracy and calibration on labelled pairs, and the temperature that puts rewards on one scale.

Conventions as in `qi2.objectives.preference`: a difference of scores is a logit; labels are 1, 0 and -1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qi2.objectives import agreement
from qi2.objectives.agreement import BINS
from qi2.objectives.preference import log_outcomes, turned_round

COLDEST, HOTTEST = 1e-3, 1e3  # bounds of the temperature, in root mean squares of the differences
_STEPS = 100
_STARTS = ((1.0, 0.02), (4.0, 0.1))  # sharpness and share of mistakes from which the link is sought


@dataclass(frozen=True)
class Calibration:
    """The scale of scores, and the link from their differences to probabilities.

    Scores divided by ``temperature`` are on the common scale: there a difference of 1 is a logit of 1, as well as one number can say it, and
    ``tie`` is the logit of a tie (0: no ties were seen). The link says more of the decided pairs: judges prefer as Bradley and Terry say with
    ``sharpness`` times the difference, and turn a share ``mistakes`` of their preferences round. So a probability may level off, however
    far two pictures are apart.
    """

    temperature: float = 1.0
    tie: float = 0.0
    sharpness: float = 1.0
    mistakes: float = 0.0

    def outcomes(self, difference: Tensor, deviation: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the three outcomes for raw differences (N,)."""
        scaled = difference / self.temperature, None if deviation is None else deviation / self.temperature
        sharp = [None if part is None else part * self.sharpness for part in scaled]
        assert sharp[0] is not None
        _, equal, _ = log_outcomes(scaled[0], self.tie or None, scaled[1])
        first, _, second = turned_round(log_outcomes(sharp[0], None, sharp[1]), self.mistakes)
        decided = torch.log1p(-equal.exp())
        return first + decided, equal, second + decided


def pairwise_hits(difference: Tensor, labels: Tensor) -> Tensor:
    """1 where the preferred one of a decided pair scores higher, else 0; an equal score counts half. Ties are left out, so (M,) with M <= N."""
    decided = labels != 0
    return torch.from_numpy(agreement.hits(_array(difference[decided]), _array(labels[decided])))


def pairwise_accuracy(difference: Tensor, labels: Tensor) -> float:
    """Share of the decided pairs whose preferred one scores higher; NaN where none is decided."""
    return float(pairwise_hits(difference, labels).mean())


def outcome_hits(outcomes: tuple[Tensor, Tensor, Tensor], labels: Tensor) -> Tensor:
    """1 where the most probable of the three outcomes is the label, else 0: accuracy with ties (N,)."""
    return torch.from_numpy(agreement.likeliest(*map(_array, outcomes)) == _array(labels)).double()


def reliability(outcomes: tuple[Tensor, Tensor, Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence in the preferred side, 0.5..1, given that it is no tie, and whether it was right (1, 0.5 or 0), for the decided pairs."""
    decided = labels != 0
    logit = (outcomes[0] - outcomes[2])[decided]
    return torch.sigmoid(logit.abs()), pairwise_hits(outcomes[0] - outcomes[2], labels).to(logit)


def calibration_error(confidence: Tensor, right: Tensor, bins: int = BINS) -> float:
    """Expected calibration error, 0..0.5, of what `reliability` gives.

    In ``bins`` bins of equal width over confidences of 0.5 to 1, the gap between mean confidence and the share that was right, weighted
    by the bins' sizes. A perfect judge has one above 0 on few pairs: about 0.8 times the standard error within a bin.
    """
    return agreement.calibration_error(_array(confidence), _array(right), bins)


def _array(values: Tensor) -> NDArray[Any]:
    """As an array of its precision, of single where NumPy has none such."""
    plain = values.detach().cpu()
    return np.asarray((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy())


def fit_calibration(difference: Tensor, labels: Tensor, deviation: Tensor | None = None) -> Calibration:
    """Scale and link of the greatest likelihood on raw differences (N,) with labels: the temperature first, then the link at that scale.

    Labels are smoothed by 1 / (decided pairs + 2) as Platt (1999) proposes, so that scores without a single mistake keep a finite
    temperature. Without deviation the temperature's problem is convex (in its inverse and the tie).
    """
    difference, labels = difference.double(), labels.double()
    deviation = None if deviation is None else deviation.double()
    size = max(float(difference.square().mean().sqrt()), 1e-6)
    ties, decided = bool((labels == 0).any()), labels != 0

    def scale(at: Tensor) -> Tensor:
        factor = at[0].exp()
        outcomes = log_outcomes(difference * factor, at[1].exp() if ties else None, None if deviation is None else deviation * factor)
        return _smoothed(outcomes, labels)

    def link(at: Tensor) -> Tensor:
        factor = at[0].exp()
        outcomes = log_outcomes(difference[decided] * factor, None, None if deviation is None else deviation[decided] * factor)
        return _smoothed(turned_round(outcomes, at[1].sigmoid() / 2), labels[decided])

    (factor, tie), _ = _least(scale, [-math.log(size), math.log(0.5)])
    temperature = min(max(math.exp(-factor), COLDEST * size), HOTTEST * size)
    if not bool(decided.any()):
        return Calibration(temperature, math.exp(tie) if ties else 0.0)
    starts = [[math.log(sharp / temperature), math.log(2 * share / (1 - 2 * share))] for sharp, share in _STARTS]
    (sharp, share), _ = min((_least(link, start) for start in starts), key=lambda found: found[1])
    return Calibration(temperature, math.exp(tie) if ties else 0.0, math.exp(sharp) * temperature, 0.5 / (1 + math.exp(-share)))


def _least(loss: Callable[[Tensor], Tensor], start: list[float]) -> tuple[list[float], float]:
    """Where a smooth function of a few numbers, kept within +-20, is least near ``start``, and its value there."""
    at = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([at], max_iter=_STEPS, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(at.clamp(-20, 20))
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(closure)  # type: ignore[no-untyped-call]
    found = at.detach().clamp(-20, 20)
    if not bool(found.isfinite().all()):
        found = torch.tensor(start, dtype=torch.float64)
    return found.tolist(), float(loss(found))


def _smoothed(outcomes: tuple[Tensor, Tensor, Tensor], labels: Tensor) -> Tensor:
    """Mean negative log-probability of labels, of which a small part is given to the other side."""
    first, equal, second = outcomes
    part = 1 / (float((labels != 0).sum()) + 2)
    decided = torch.where(labels > 0, (1 - part) * first + part * second, part * first + (1 - part) * second)
    return -torch.where(labels == 0, equal, decided).mean()
