"""Probabilities of a comparison's outcomes, and the losses of preferences and of scores."""

import math

import pytest
import torch

from qi2.objectives.preference import bradley_terry_loss, centring_loss, log_outcomes, pointwise_loss, preference_loss, turned_round

DIFFERENCES = torch.tensor([-3.0, -0.4, 0.0, 1.2, 6.0], dtype=torch.float64)
LABELS = torch.tensor([1.0, -1.0, 0.0])


def total(tie: float | None, deviation: torch.Tensor | None = None) -> torch.Tensor:
    return torch.stack(log_outcomes(DIFFERENCES, tie, deviation)).exp().sum(0)


@pytest.mark.parametrize("tie", [None, 0.1, math.log(5), 4.0])
@pytest.mark.parametrize("deviation", [None, 0.5, 3.0])
def test_the_three_outcomes_sum_to_one(tie: float | None, deviation: float | None) -> None:
    given = None if deviation is None else torch.full_like(DIFFERENCES, deviation)
    assert torch.allclose(total(tie, given), torch.ones_like(DIFFERENCES))


def test_outcomes_with_ties_are_rao_and_kuppers() -> None:
    first, second, theta = math.exp(1.0), math.exp(0.2), 2.0
    expected = [first / (first + theta * second), 0.0, second / (second + theta * first)]
    expected[1] = first * second * (theta**2 - 1) / ((first + theta * second) * (second + theta * first))
    found = torch.stack(log_outcomes(torch.tensor(0.8, dtype=torch.float64), math.log(theta))).exp()
    assert found.tolist() == pytest.approx(expected)


def test_at_the_tie_logit_the_first_wins_every_second_time_and_a_small_tie_is_none() -> None:
    assert log_outcomes(torch.tensor(0.7), 0.7)[0].exp().item() == pytest.approx(0.5)
    without, with_little = (torch.stack(log_outcomes(DIFFERENCES, tie)).exp() for tie in (None, 1e-9))
    assert torch.allclose(without, with_little, atol=1e-6)


def test_equal_scores_cost_one_bit() -> None:
    assert bradley_terry_loss(torch.zeros(4), torch.zeros(4)).item() == pytest.approx(math.log(2))
    assert preference_loss(torch.zeros(3), LABELS).item() == pytest.approx(math.log(2))


def test_loss_is_the_negative_log_probability_of_the_labels() -> None:
    difference, tie = torch.tensor([0.8, 0.8, 0.8]), math.log(2.0)
    first, second, theta = math.exp(0.8), 1.0, 2.0
    win, lose = first / (first + theta * second), second / (second + theta * first)
    expected = -(math.log(win) + math.log(lose) + math.log(1 - win - lose)) / 3
    assert preference_loss(difference, LABELS, tie).item() == pytest.approx(expected, rel=1e-5)


def test_without_a_tie_logit_a_tie_is_half_a_win_for_either_side() -> None:
    difference, tied, won, lost = torch.tensor([1.3]), torch.zeros(1), torch.ones(1), -torch.ones(1)
    half = (preference_loss(difference, won) + preference_loss(difference, lost)) / 2
    assert preference_loss(difference, tied).item() == pytest.approx(half.item())


def test_labels_turned_round_are_differences_turned_round() -> None:
    difference, labels = torch.randn(32), torch.randint(-1, 2, (32,)).float()
    assert preference_loss(difference, labels, 0.6).item() == pytest.approx(preference_loss(-difference, -labels, 0.6).item(), rel=1e-5)
    assert preference_loss(difference[labels != 0], labels[labels != 0]).item() == pytest.approx(
        bradley_terry_loss((difference * labels)[labels != 0], torch.zeros(int((labels != 0).sum()))).item(), rel=1e-5
    )


def test_uncertain_scores_average_the_probability() -> None:
    """Against a mean over many draws, and the certain probability where the deviation is none."""
    draws = torch.randn(400_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampled = [part.exp().mean().item() for part in log_outcomes(0.8 + 1.5 * draws, 0.5)]
    value, deviation = torch.tensor([0.8], dtype=torch.float64), torch.tensor([1.5], dtype=torch.float64)
    assert torch.cat(log_outcomes(value, 0.5, deviation)).exp().tolist() == pytest.approx(sampled, abs=2e-3)
    certain = torch.cat(log_outcomes(value, 0.5, 0 * deviation))
    assert torch.allclose(certain, torch.cat(log_outcomes(value, 0.5)))


def test_a_wrong_label_teaches_uncertainty_and_a_right_one_certainty() -> None:
    for label, sign in ((1.0, 1), (-1.0, -1)):
        deviation = torch.tensor([1.0], requires_grad=True)
        preference_loss(torch.tensor([2.0]), torch.tensor([label]), None, deviation).backward()
        assert deviation.grad is not None
        assert deviation.grad.item() * sign > 0


def test_the_mean_of_log_probabilities_could_never_teach_uncertainty() -> None:
    """Why the published form is not used: it is convex, so a deviation costs even where the label is wrong."""
    draws = torch.randn(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for difference in (-4.0, -1.0, 2.0):
        costs = [-torch.nn.functional.logsigmoid(difference + deviation * draws).mean().item() for deviation in (0.0, 1.0, 2.0)]
        assert costs[0] < costs[1] < costs[2]


def test_a_common_shift_changes_only_the_centring() -> None:
    better, worse = torch.randn(8), torch.randn(8)
    assert bradley_terry_loss(better + 3, worse + 3).item() == pytest.approx(bradley_terry_loss(better, worse).item(), rel=1e-4)
    assert centring_loss(torch.tensor([1.0, -3.0])).item() == 5.0


def test_pointwise_loss_is_the_mean_squared_error() -> None:
    assert pointwise_loss(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])).item() == 2.5


def test_turning_labels_round_exchanges_a_share_of_the_decided_outcomes() -> None:
    before = torch.stack(log_outcomes(DIFFERENCES, 0.5)).exp()
    after = torch.stack(turned_round(log_outcomes(DIFFERENCES, 0.5), 0.1)).exp()
    assert torch.allclose(after[0], 0.9 * before[0] + 0.1 * before[2])
    assert torch.allclose(after[2], 0.9 * before[2] + 0.1 * before[0])
    assert torch.equal(after[1], before[1])
    assert torch.allclose(torch.stack(turned_round(log_outcomes(DIFFERENCES, 0.5), 0.0)).exp(), before)
