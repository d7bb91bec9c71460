"""Ratios of sums over pictures with 95 % intervals. What is said of one picture is not independent, so pictures are what is drawn again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qi2.core.rng import numpy_rng

Ratio = tuple[float, float]  # part and whole of one picture
DRAWS = 1000
Z = 1.959964


@dataclass(frozen=True)
class Figure:
    """A ratio, its 95 % interval, and the number of pictures that it is measured on."""

    value: float
    low: float
    high: float
    pictures: int


def figure(ratios: Sequence[Ratio], seed: int, purpose: str) -> Figure:
    """Sum of parts over sum of wholes with a bootstrap interval; at 0 and 1, where that would claim certainty, Wilson's over pictures."""
    data = np.array([ratio for ratio in ratios if any(ratio)], dtype=float)
    value = float(data[:, 0].sum() / data[:, 1].sum())
    if value in (0.0, 1.0):
        return Figure(value, *wilson(value, len(data)), len(data))
    rng = numpy_rng(seed, f"captions/bootstrap/{purpose}")
    draws = np.array([data[rng.integers(len(data), size=len(data))].sum(0) for _ in range(DRAWS)])
    low, high = np.quantile(draws[:, 0] / np.maximum(draws[:, 1], 1e-9), [0.025, 0.975])
    return Figure(value, float(low), float(high), len(data))


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share of ``n`` cases."""
    centre, spread = share + Z**2 / (2 * n), Z * (share * (1 - share) / n + Z**2 / (4 * n**2)) ** 0.5
    return max(0.0, (centre - spread) / (1 + Z**2 / n)), min(1.0, (centre + spread) / (1 + Z**2 / n))
