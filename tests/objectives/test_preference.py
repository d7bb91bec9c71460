"""Bradley-Terry's loss and the calibration of scores."""

import math

import pytest
import torch

from qi2.objectives.preference import bradley_terry_loss, calibration_error, centring_loss, pairwise_accuracy, standardisation


def test_equal_scores_cost_one_bit() -> None:
    assert bradley_terry_loss(torch.zeros(4), torch.zeros(4)).item() == pytest.approx(math.log(2))


def test_loss_is_the_negative_log_probability_of_the_preference() -> None:
    better, worse = torch.tensor([1.0, -0.5]), torch.tensor([0.2, 1.0])
    strength = lambda score: torch.exp(score)  # noqa: E731
    expected = -torch.log(strength(better) / (strength(better) + strength(worse))).mean()
    assert bradley_terry_loss(better, worse).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_common_shift_changes_only_the_centring() -> None:
    better, worse = torch.randn(8), torch.randn(8)
    assert bradley_terry_loss(better + 3, worse + 3).item() == pytest.approx(bradley_terry_loss(better, worse).item(), rel=1e-4)
    assert centring_loss(better + 3) > centring_loss(better)


def test_a_tie_counts_half() -> None:
    assert pairwise_accuracy(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.0, 0.0, 3.0])) == pytest.approx(0.5)


def test_true_probabilities_have_no_calibration_error_and_doubled_logits_do() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20000, generator=generator)
    won = torch.rand(20000, generator=generator) < torch.sigmoid(logits)
    first = torch.where(won, logits, -logits)
    assert calibration_error(first, torch.zeros(20000)) < 0.015
    assert calibration_error(3 * first, torch.zeros(20000)) > 0.08


def test_standardised_scores_have_mean_zero_and_deviation_one() -> None:
    scores = torch.randn(500) * 3 + 7
    mean, std = standardisation(scores)
    z = (scores - mean) / std
    assert z.mean().abs() < 1e-4
    assert z.std(unbiased=False).item() == pytest.approx(1, rel=1e-4)
    assert standardisation(torch.ones(3))[1] > 0
