"""What an aggregator is: a formula per picture, and one over all prompts.

``measure`` turns a scorer's answer on one picture into named numbers. Their means over a prompt's pictures make a `Table`, one line per prompt, and
``combine`` makes figures of it: ``score`` first, then whatever else the benchmark reports. Intervals follow by drawing the table's prompts again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qi2.evaluation.suites.row import Row

Answer = Mapping[str, Any]
Options = Mapping[str, Any]
Numbers = dict[str, Any]
"""Figures by name: numbers, or arrays of them where `Table` holds draws."""


@dataclass(frozen=True)
class Table:
    """One line per prompt: its category, its weight, and columns, NaN where a number does not apply to a prompt.

    Columns are of shape (prompts,), or (draws, prompts) where prompts are drawn again for an interval; figures then are of shape (draws,).
    """

    categories: NDArray[np.str_]
    weights: NDArray[np.float64]  # 1 as measured
    columns: dict[str, NDArray[np.float64]]

    @staticmethod
    def of(categories: Sequence[str], lines: Sequence[Sequence[Numbers]]) -> "Table":
        """From every prompt's pictures: the mean of each number over the pictures that have it."""
        names = dict.fromkeys(name for pictures in lines for numbers in pictures for name in numbers)
        columns = {name: np.array([_mean([n[name] for n in pictures if name in n]) for pictures in lines], dtype=np.float64) for name in names}
        return Table(np.array(categories, dtype=np.str_), np.ones(len(lines)), columns)

    def take(self, lines: NDArray[np.int64], weights: NDArray[np.float64]) -> "Table":
        """Draws of the table's lines, of shape (draws, drawn); each place has the same category in every draw, and its weight (drawn,)."""
        return Table(self.categories[lines[0]], weights, {name: values[lines] for name, values in self.columns.items()})

    def mean(self, column: str, category: str | None = None) -> Any:
        """Mean over all prompts, or those of a category, to which the number applies; NaN where it applies to none."""
        chosen = slice(None) if category is None else self.categories == category
        values = self.columns[column][..., chosen]
        weights = np.where(np.isnan(values), 0.0, self.weights[chosen])
        with np.errstate(invalid="ignore"):
            return (weights * np.nan_to_num(values)).sum(-1) / weights.sum(-1)

    def total(self, column: str) -> Any:
        """Sum over the prompts to which the number applies."""
        return (self.weights * np.nan_to_num(self.columns[column])).sum(-1)

    def by_category(self, column: str) -> Numbers:
        """{``by_category/NAME``: mean}, in order of the names."""
        return {f"by_category/{name}": self.mean(column, str(name)) for name in np.unique(self.categories)}

    def macro(self, column: str) -> Any:
        """Mean of the categories' means: every category counts the same, however many prompts it has."""
        return np.mean(list(self.by_category(column).values()), axis=0)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def no_check(row: Row) -> str:
    """Every row is right."""
    return ""


@dataclass(frozen=True)
class Aggregator:
    """``needs`` are the keys of a row; ``check`` says what is wrong with one, in words, or nothing."""

    name: str
    scorer: str  # the protocol whose answers it reads
    needs: tuple[str, ...]
    measure: Callable[[Answer, Row, Options], Numbers]
    combine: Callable[[Table, Options], Numbers]
    check: Callable[[Row], str] = no_check
    scale: tuple[float, float] = (0.0, 1.0)  # least and most of its figures


def overall(table: Table, options: Options) -> Numbers:
    """``score``: mean over prompts; the other numbers likewise, and the score by category."""
    rest = {name: table.mean(name) for name in table.columns if name != "score"}
    return {"score": table.mean("score")} | rest | table.by_category("score")


def per_category(table: Table, options: Options) -> Numbers:
    """``score``: mean of the categories' means; the other numbers likewise."""
    rest = {name: table.macro(name) for name in table.columns if name != "score"}
    return {"score": table.macro("score")} | rest | table.by_category("score")
