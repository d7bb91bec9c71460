"""Intervals of suites: their stated coverage in simulation, and what they rest on."""

import numpy as np
import pytest

from qi2.evaluation.aggregate.base import Numbers, Table, per_category
from qi2.evaluation.aggregate.intervals import figures
from qi2.evaluation.aggregate.registry import AGGREGATORS


def macro(table: Table) -> Numbers:
    return per_category(table, {})


def simulated(rng: np.random.Generator, rates: list[float], prompts: int, pictures: int, spread: float) -> Table:
    """Prompts of unequal difficulty, each with right-or-wrong pictures; the mean of every category is its rate."""
    lines, categories = [], []
    for number, rate in enumerate(rates):
        for own in rng.beta(rate * spread, (1 - rate) * spread, prompts):
            lines.append([{"score": float(right)} for right in rng.random(pictures) < own])
            categories.append(f"task{number}")
    return Table.of(categories, lines)


def test_a_score_over_tasks_lies_in_its_interval_as_often_as_stated() -> None:
    """Of 500 simulated suites 475 +- 15 (three standard deviations) should cover, and both sides should share what is left."""
    rng, rates, low, high = np.random.default_rng(0), [0.95, 0.9, 0.7, 0.8, 0.5, 0.4], 0, 0
    for seed in range(500):
        found = figures(simulated(rng, rates, 20, 4, 2.0), macro, seed, 300)["score"]
        low, high = low + (found.high < np.mean(rates)), high + (found.low > np.mean(rates))
    assert 500 - low - high == pytest.approx(475, abs=15), (low, high)
    assert max(low, high) <= 25


def test_weights_keep_a_mean_over_unequal_categories_in_the_middle_of_its_draws() -> None:
    """Drawing n - 1 of each category without weights would pull the mean towards the large one."""
    rng = np.random.default_rng(1)
    categories = ["few"] * 2 + ["many"] * 40
    lines = [[{"score": 10.0 + rng.normal()}] for _ in range(2)] + [[{"score": rng.normal()}] for _ in range(40)]
    found = figures(Table.of(categories, lines), lambda table: AGGREGATORS["text"].combine(table, {}), 0, 2000)["score"]
    assert (found.low + found.high) / 2 == pytest.approx(found.value, abs=0.05)


def test_all_right_is_not_certain() -> None:
    found = figures(Table.of(["a"] * 10, [[{"score": 1.0}]] * 10), macro, 0, 100)
    assert (found["score"].value, found["score"].high) == (1.0, 1.0)
    assert found["score"].low == pytest.approx(0.722, abs=0.001)  # Wilson: 10 / (10 + 1.96^2)
    assert found["by_category/a"].n == 10


def test_none_right_is_not_certain_either_on_the_formulas_own_scale() -> None:
    none, all_right = (Table.of(["a"] * 10, [[{"score": value}]] * 10) for value in (0.0, 5.0))
    nothing, everything = figures(none, macro, 0, 100, (0.0, 10.0))["score"], figures(all_right, macro, 0, 100, (1.0, 5.0))["score"]
    assert (nothing.low, nothing.high) == (0.0, pytest.approx(2.775, abs=0.01))  # ten times 1 - 0.722
    assert (everything.low, everything.high) == (pytest.approx(1 + 4 * 0.722, abs=0.01), 5.0)
    assert (AGGREGATORS["gedit"].scale, AGGREGATORS["imgedit"].scale, AGGREGATORS["text"].scale) == ((0, 10), (1, 5), (0, 1))


def test_the_same_table_gives_the_same_interval_and_a_new_category_moves_no_other() -> None:
    rng = np.random.default_rng(2)
    one = Table.of(["a"] * 12, [[{"score": float(x)}] for x in rng.random(12)])
    more = Table.of(["a"] * 12 + ["b"] * 5, [[{"score": float(x)}] for x in (*one.columns["score"], *rng.random(5))])
    assert figures(one, macro, 3, 50) == figures(one, macro, 3, 50)
    assert figures(one, macro, 3, 50)["by_category/a"] == figures(more, macro, 3, 50)["by_category/a"]
