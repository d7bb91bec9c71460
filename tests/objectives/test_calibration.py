"""Accuracy, calibration error, and the temperature of the common scale."""

import math

import pytest
import torch
from torch import Tensor

from qi2.objectives.calibration import calibration_error, fit_calibration, outcome_hits, pairwise_accuracy, reliability
from qi2.objectives.preference import log_outcomes


def judged(logits: Tensor, tie: float | None = None) -> Tensor:
    """Labels drawn from the outcomes' probabilities."""
    draw = torch.rand(len(logits), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first, equal, _ = (part.exp() for part in log_outcomes(logits, tie))
    return torch.where(draw < first, 1.0, torch.where(draw < first + equal, 0.0, -1.0))


def logits(n: int = 20_000) -> Tensor:
    return 1.5 * torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def error_of(difference: Tensor, labels: Tensor) -> float:
    return calibration_error(*reliability(log_outcomes(difference), labels))


def test_accuracy_leaves_ties_out_and_an_equal_score_counts_half() -> None:
    difference, labels = torch.tensor([1.0, -2.0, 0.0, 5.0, 0.3]), torch.tensor([1.0, 1.0, -1.0, 0.0, 0.0])
    assert pairwise_accuracy(difference, labels) == pytest.approx(0.5)


def test_accuracy_with_ties_takes_the_most_probable_outcome() -> None:
    outcomes = log_outcomes(torch.tensor([3.0, -3.0, 0.1, 3.0]), 1.0)
    assert outcome_hits(outcomes, torch.tensor([1.0, -1.0, 0.0, 0.0])).tolist() == [1, 1, 1, 0]


def test_calibration_error_by_hand() -> None:
    """Two bins: mean confidence 0.65 with half right, and 0.85 with all right, of two and of one pair."""
    confidence, right = torch.tensor([0.6, 0.7, 0.85]), torch.tensor([1.0, 0.0, 1.0])
    assert calibration_error(confidence, right, bins=2) == pytest.approx((2 * 0.15 + 0.15) / 3)


def test_true_probabilities_have_no_calibration_error_and_tripled_logits_do() -> None:
    first = logits()
    labels = judged(first)
    assert error_of(first, labels) < 0.015
    assert error_of(3 * first, labels) > 0.08


def test_confidence_is_that_of_the_side_given_no_tie() -> None:
    difference, tie = torch.tensor([0.8]), math.log(2)
    first, _, second = (part.exp().item() for part in log_outcomes(difference, tie))
    confidence, right = reliability(log_outcomes(difference, tie), torch.tensor([-1.0]))
    assert confidence.item() == pytest.approx(first / (first + second))
    assert right.item() == 0


@pytest.mark.parametrize("tie", [None, 0.8])
def test_the_fit_finds_temperature_and_tie_that_made_the_labels(tie: float | None) -> None:
    true = logits()
    found = fit_calibration(2.5 * true, judged(true, tie))
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert found.tie == pytest.approx(tie or 0.0, rel=0.05)
    assert found.mistakes < 0.01
    truth, told = (torch.stack(part).exp() for part in (log_outcomes(true, tie), found.outcomes(2.5 * true)))
    assert torch.allclose(told.sum(0), torch.ones(len(true), dtype=torch.float64))
    assert (truth - told).abs().mean() < 0.01


def test_mistakes_level_probabilities_off_and_the_fit_finds_their_share() -> None:
    """Sharp preferences of which 15 % are turned round, and ties at any distance: no temperature alone can say so."""
    true = logits()
    careless, tied = (torch.rand(20_000, generator=torch.Generator().manual_seed(seed)) < share for seed, share in ((3, 0.15), (4, 0.1)))
    labels = torch.where(careless, -1.0, 1.0) * judged(4 * true) * ~tied
    found = fit_calibration(true[:10_000], labels[:10_000])
    assert found.mistakes == pytest.approx(0.15, abs=0.02)
    assert found.sharpness / found.temperature == pytest.approx(4, rel=0.15)
    assert found.outcomes(torch.tensor([50.0]))[0].exp().item() == pytest.approx(1 - found.mistakes, abs=1e-3)
    errors = [
        calibration_error(*reliability(given, labels[10_000:])) for given in (log_outcomes(true[10_000:] / found.temperature), found.outcomes(true[10_000:]))
    ]
    assert errors[0] > 0.05
    assert errors[1] < 0.02


def test_the_fit_repairs_what_is_too_sure_of_itself() -> None:
    true = logits(4000)
    labels, raw = judged(true), 4 * true
    found = fit_calibration(raw[:2000], labels[:2000])
    before, after = (error_of(part, labels[2000:]) for part in (raw[2000:], raw[2000:] / found.temperature))
    assert before > 0.1
    assert after < 0.04


def test_uncertain_differences_are_fitted_too() -> None:
    true, deviation = logits(), torch.full((20_000,), 1.0, dtype=torch.float64)
    draw = torch.randn(20_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = fit_calibration(2 * true, judged(true + deviation * draw), 2 * deviation)
    assert found.temperature == pytest.approx(2, rel=0.06)


def test_scores_without_a_mistake_and_scores_without_use_stay_finite() -> None:
    right = fit_calibration(torch.ones(50), torch.ones(50))
    assert 0 < right.temperature < math.inf
    assert right.outcomes(torch.ones(1))[0].exp().item() == pytest.approx(51 / 52, abs=0.01)
    useless = fit_calibration(torch.randn(400, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, -1.0] * 200))
    assert useless.outcomes(torch.ones(1))[0].exp().item() == pytest.approx(0.5, abs=0.08)
    assert math.isfinite(fit_calibration(torch.zeros(10), torch.ones(10)).temperature)
