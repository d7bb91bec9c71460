"""Figures of a reward model on judged pairs, with intervals by bootstrap over prompts; torch-free.

The stage `rewards` leaves its held-out pairs in ``rewards/NAME/judged.csv``; `qi2 reward evaluate` makes the same of any table.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.objectives.agreement import BINS, bins_of, hits, likeliest

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """N pairs: prompt, label (1, 0, -1), truth (NaN where unknown), difference of scores, probabilities of the outcomes first, tie, second."""

    prompts: Sequence[str]
    label: Values
    truth: Values
    difference: Values
    first: Values
    tie: Values
    second: Values

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str | float]]) -> "Judged":
        """Of rows that have these names, ``prompt`` for the first."""
        columns = ("label", "truth", "difference", "first", "tie", "second")
        return cls([str(row["prompt"]) for row in rows], *(np.array([_number(row[name]) for row in rows]) for name in columns))

    @classmethod
    def read(cls, path: Path) -> "Judged":
        """Of a file that the stage has written."""
        with open(path, newline="", encoding="utf-8") as handle:
            return cls.of(list(csv.DictReader(handle)))

    @property
    def confidence(self) -> Values:
        """Probability of the preferred side, given that it is no tie."""
        return np.maximum(self.first, self.second) / np.maximum(self.first + self.second, 1e-12)

    @property
    def outcome(self) -> Values:
        """The most probable label."""
        return likeliest(self.first, self.tie, self.second).astype(np.float64)


def _number(value: str | float) -> float:
    """An empty cell is how a table says that a truth is not known."""
    return float("nan") if value == "" else float(value)


def reward_figures(judged: Judged, boot: Bootstrap) -> dict[str, Figure]:
    """accuracy (of the decided pairs), accuracy_with_ties, calibration_error and, where the truth is known, ceiling, of_ceiling, accuracy_truth.

    The interval of the calibration error is that of the percentiles; resampling adds noise to it, so it leans upwards.
    """
    _, group = np.unique(np.array(judged.prompts), return_inverse=True)
    decided, known = judged.label != 0, ~np.isnan(judged.truth) & (judged.label != 0)
    found_right, right = _hits(judged.difference, judged.label), _hits(judged.truth, judged.label)
    sums = _Sums(group, boot)
    found = {
        "accuracy": sums.ratio(found_right, decided, decided),
        "accuracy_with_ties": sums.ratio((judged.outcome == judged.label).astype(float), None, None),
        "calibration_error": sums.calibration_error(judged.confidence, found_right, decided),
    }
    if known.any():
        found["ceiling"] = sums.ratio(right, known, known)
        found["of_ceiling"] = sums.ratio(found_right, known, known, right)
        certain = known & (judged.truth != 0)
        found["accuracy_truth"] = sums.ratio(_hits(judged.difference, judged.truth), certain, certain)
    return {name: figure for name, figure in found.items() if figure is not None}


def _hits(difference: Values, label: Values) -> Values:
    """`agreement.hits`; an unknown difference is none."""
    return hits(np.nan_to_num(difference), label)


@dataclass(frozen=True)
class _Sums:
    """Statistics over prompts with their pairs."""

    group: NDArray[np.intp]
    boot: Bootstrap

    def ratio(self, values: Values, of: NDArray[np.bool_] | None, over: NDArray[np.bool_] | None, base: Values | None = None) -> Figure | None:
        """Sum of ``values`` where ``of`` holds, over the number of pairs where ``over`` does, or over the sum of ``base`` there."""
        above = self._per_prompt(values if of is None else values * of)
        below = self._per_prompt((np.ones_like(values) if base is None else base) * (1.0 if over is None else over))
        return self.boot.ratio(above, below)

    def calibration_error(self, confidence: Values, right: Values, decided: NDArray[np.bool_]) -> Figure | None:
        """Expected calibration error of the decided pairs."""
        if not decided.any():
            return None
        bins = bins_of(confidence)
        gaps = np.stack([self._per_prompt((confidence - right) * decided * (bins == b)) for b in range(BINS)], 1)
        counts = self._per_prompt(decided.astype(float))

        def error(indices: NDArray[np.int64]) -> Values:
            return np.abs(gaps[indices].sum(1)).sum(1) / np.maximum(counts[indices].sum(1), 1)  # type: ignore[no-any-return]

        return self.boot.of_groups(float(np.abs(gaps.sum(0)).sum() / counts.sum()), len(gaps), error)

    def _per_prompt(self, values: Values) -> Values:
        return np.bincount(self.group, weights=values).astype(np.float64)
