"""Intervals: they cover the truth as often as they say, they are paired, and they are the same for the same seed."""

import numpy as np
import pytest

from qi2.core.errors import QI2Error
from qi2.evaluation.bootstrap import Bootstrap, Figure, exact, proportion


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    truth, trials = 0.7, 300
    figures = [Bootstrap(seed).mean(rng.random(120) < truth) for seed in range(trials)]
    covered = np.mean([figure.low <= truth <= figure.high for figure in figures])
    assert 0.90 <= covered <= 0.985


def test_paired_interval_is_narrower_than_unpaired_and_covers_the_true_gain() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        difficulty = rng.random(150)
        before, after = difficulty < 0.6, difficulty < 0.7
        boot = Bootstrap(seed)
        figure = boot.difference(after, before)
        hits += figure.low <= 0.1 <= figure.high
        assert figure.high - figure.low < boot.mean(after).high - boot.mean(after).low
    assert hits / 200 > 0.88


def test_same_seed_gives_the_same_figure_and_another_seed_another_interval() -> None:
    values = np.random.default_rng(2).random(50)
    assert Bootstrap(3).mean(values) == Bootstrap(3).mean(values)
    assert Bootstrap(3).mean(values) != Bootstrap(4).mean(values)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_right_or_all_wrong_does_not_claim_certainty(value: float) -> None:
    figure = Bootstrap(0).mean(np.full(40, value))
    assert figure.value == value
    assert 0.05 < figure.high - figure.low < 0.12
    assert figure.low <= value <= figure.high


def test_models_that_never_differ_are_not_claimed_to_be_equal_for_certain() -> None:
    figure = Bootstrap(0).difference(np.ones(50), np.ones(50))
    assert figure.value == 0
    assert -0.1 < figure.low < -0.05 < 0.05 < figure.high < 0.1


def test_ratio_of_a_model_to_itself_is_one_and_undefined_over_zero() -> None:
    values = np.random.default_rng(3).random(60) < 0.5
    assert Bootstrap(0).ratio(values, values) == Figure(1.0, 1.0, 1.0, 60)
    assert Bootstrap(0).ratio(values, np.zeros(60)) is None


def test_unequal_or_empty_prompt_sets_are_refused() -> None:
    with pytest.raises(QI2Error, match="same prompts"):
        Bootstrap(0).difference([1.0, 0.0], [1.0])
    with pytest.raises(QI2Error, match="empty"):
        Bootstrap(0).mean([])


def test_share_without_cases_has_a_wilson_interval_and_a_time_has_none() -> None:
    assert proportion(0.9, 100).low == pytest.approx(0.8256, abs=1e-3)
    assert exact(12.5) == Figure(12.5, 12.5, 12.5, 1)


def test_the_median_ignores_a_few_large_errors() -> None:
    figure = Bootstrap(0).median([*range(100), 10_000, 10_000])
    assert figure.value == 50.5
    assert 35 < figure.low < 50.5 < figure.high < 65
