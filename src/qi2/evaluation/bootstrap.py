"""Intervals for figures: percentile bootstrap over prompts, paired wherever two models saw the same prompts and seeds.

Resampling prompts (not images or attributes) keeps what belongs together together. The resampling indices depend only on
the seed and the number of prompts, so that the same results always give the same interval.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng

LEVEL = 0.95
_Z = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True)
class Figure:
    """One number with its 95 % interval and the number of prompts (or images) it rests on."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float | int]:
        """The form that results.json and summary.json hold."""
        return asdict(self)


@dataclass(frozen=True)
class Bootstrap:
    """Figures from per-prompt values; ``resamples`` is the number of bootstrap draws, ``level`` the coverage of their intervals."""

    seed: int
    resamples: int = 1000
    level: float = LEVEL

    def mean(self, values: ArrayLike) -> Figure:
        """Mean of per-prompt values of shape (n,).

        Where every value is 0 or every value is 1 the bootstrap would claim certainty; the Wilson score interval stands in.
        """
        data = _vector(values)
        value = float(data.mean())
        if np.all(data == 0.0) or np.all(data == 1.0):
            low, high = _wilson(value, len(data))
            return Figure(value, low, high, len(data))
        return self._figure(value, data[self._indices(len(data))].mean(axis=1), len(data))

    def median(self, values: ArrayLike) -> Figure:
        """Median of per-prompt values of shape (n,)."""
        data = _vector(values)
        return self._figure(float(np.median(data)), np.median(data[self._indices(len(data))], axis=1), len(data))

    def difference(self, first: ArrayLike, second: ArrayLike) -> Figure:
        """Mean of ``first - second`` over the same prompts, both of shape (n,).

        Where right-or-wrong values never differ, the interval is that of the share of prompts that might still differ.
        """
        a, b = _pair(first, second)
        if np.array_equal(a, b) and set(np.unique(a)) <= {0.0, 1.0}:
            _, differing = _wilson(0.0, len(a))
            return Figure(0.0, -differing, differing, len(a))
        return self._figure(float((a - b).mean()), (a - b)[self._indices(len(a))].mean(axis=1), len(a))

    def ratio(self, first: ArrayLike, second: ArrayLike) -> Figure | None:
        """Mean of ``first`` over mean of ``second`` on the same prompts; None where ``second`` is zero throughout.

        Draws in which ``second`` happens to sum to zero carry no ratio and are left out.
        """
        a, b = _pair(first, second)
        if b.sum() == 0:
            return None
        indices = self._indices(len(a))
        above, below = a[indices].sum(axis=1), b[indices].sum(axis=1)
        return self._figure(float(a.sum() / b.sum()), above[below != 0] / below[below != 0], len(a))

    def of_groups(self, value: float, n: int, statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]]) -> Figure:
        """Any statistic of ``n`` prompts: ``value`` of all, and what ``statistic`` gives for rows of prompt numbers, (resamples, n) to (resamples,)."""
        return self._figure(value, statistic(self._indices(n)), n)

    def _indices(self, n: int) -> NDArray[np.int64]:
        return numpy_rng(self.seed, "bootstrap", n).integers(0, n, size=(self.resamples, n))

    def _figure(self, value: float, draws: NDArray[np.float64], n: int) -> Figure:
        low, high = np.quantile(draws, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Figure(value, float(low), float(high), n)


def exact(value: float, n: int = 1) -> Figure:
    """A measured number without sampling error, such as a time."""
    return Figure(float(value), float(value), float(value), n)


def proportion(value: float, n: int) -> Figure:
    """A share of ``n`` cases of which only the share is known, with its Wilson score interval."""
    return Figure(float(value), *_wilson(float(value), n), n)


def _wilson(share: float, n: int) -> tuple[float, float]:
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)


def _vector(values: ArrayLike | Sequence[float]) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) == 0:
        raise QI2Error(f"a figure needs per-prompt values of shape (n,), n >= 1, not {data.shape}; check that the suite is not empty")
    return data


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = _vector(first), _vector(second)
    if len(a) != len(b):
        raise QI2Error(f"a paired figure needs the same prompts on both sides, not {len(a)} and {len(b)}; evaluate both on one suite")
    return a, b
