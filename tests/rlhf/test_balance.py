"""Weights of rewards and shares of kinds, by hand."""

import math

import pytest
import torch

from qi2.rlhf.balance import KindShares, RewardBalance


def rewards(**means: float) -> dict[str, torch.Tensor]:
    """Two prompts with two samples each: the mean plus and minus 1, so that the deviation is 1."""
    return {name: mean + torch.tensor([[-1.0, 1.0], [1.0, -1.0]]) for name, mean in means.items()}


def balance(rate: float = 0.5, limit: float = 4.0, floor: float = 0.2) -> RewardBalance:
    return RewardBalance({"a": 2.0, "b": 1.0}, keep=0.5, floor=floor, rate=rate, limit=limit)


def test_weights_begin_as_configured() -> None:
    assert balance().weights() == {"a": 2.0, "b": 1.0}


def test_reward_that_fell_gains_what_one_that_ran_away_loses() -> None:
    """b falls by 1 of its deviations while a rises: falls (0, 1), their mean 0.5, so a x exp(-0.25) and b x exp(0.25)."""
    found = balance()
    found.see_judgement(rewards(a=0.0, b=0.0))
    assert found.weights() == {"a": 2.0, "b": 1.0}
    found.see_judgement(rewards(a=5.0, b=-1.0))
    assert found.weights()["a"] == pytest.approx(2 * math.exp(-0.25))
    assert found.weights()["b"] == pytest.approx(math.exp(0.25))


def test_weights_rest_where_all_rewards_are_at_their_best() -> None:
    found = balance()
    for level in (0.0, 1.0, 2.0):
        found.see_judgement(rewards(a=level, b=10 * level))
    assert found.weights() == {"a": 2.0, "b": 1.0}


def test_factors_stay_within_their_limits_however_long_a_reward_falls() -> None:
    found = balance(limit=3.0)
    for step in range(50):
        found.see_judgement(rewards(a=float(step), b=-float(step)))
    assert found.weights()["a"] == pytest.approx(2 / 3)
    assert found.weights()["b"] == pytest.approx(3)


def test_fall_is_measured_in_units_of_each_reward() -> None:
    one, other = balance(), balance()
    one.see_judgement(rewards(a=0.0, b=0.0))
    one.see_judgement(rewards(a=0.0, b=-1.0))
    large = {name: 100 * values for name, values in rewards(a=0.0, b=0.0).items()}
    other.see_judgement(large)
    other.see_judgement({"a": large["a"], "b": large["b"] - 100})
    assert one.weights() == pytest.approx(other.weights())


def test_reward_that_does_not_apply_is_left_alone() -> None:
    found = balance()
    for level in (0.0, -1.0):
        found.see_judgement(rewards(a=level) | {"b": torch.full((2, 2), torch.nan)})
    assert found.weights() == {"a": 2.0, "b": 1.0}


def test_reward_that_no_longer_tells_samples_apart_loses_weight() -> None:
    """Its spread falls from 1 to 0: the running one is 0.5, so 0.2 + 0.8 * 0.5."""
    found = balance()
    found.see_rollout(rewards(a=0.0, b=0.0))
    found.see_rollout({"a": rewards(a=0.0)["a"], "b": torch.zeros(2, 2)})
    assert found.weights() == pytest.approx({"a": 2.0, "b": 0.6})


def test_two_opposed_rewards_end_where_neither_runs_away() -> None:
    """A constructed policy: one number x, moved by the weighted sum of two rewards' gradients, a = x and b = -3 x. With fixed weights of 6 to 1 a
    runs away and b falls without end; the rule stops that."""

    def run(rate: float) -> float:
        found = RewardBalance({"a": 6.0, "b": 1.0}, keep=0.9, floor=1.0, rate=rate, limit=4.0)
        x = 0.0
        for _ in range(60):
            found.see_judgement(rewards(a=x, b=-3 * x))
            weights = found.weights()
            x += 0.05 * (weights["a"] - 3 * weights["b"])
        return x

    assert run(0.0) == pytest.approx(60 * 0.05 * 3)
    assert abs(run(0.5)) < 1.5


def test_resumed_state_has_the_same_weights() -> None:
    found, resumed = balance(), balance()
    found.see_rollout(rewards(a=0.0, b=0.0))
    for level in (0.0, -1.0):
        found.see_judgement(rewards(a=0.0, b=level))
    resumed.load_state_dict(found.state_dict())
    assert resumed.weights() == found.weights()


def test_composite_does_not_move_with_the_weights() -> None:
    """(2 * 3 + 1 * -1) / 3 in units of deviations that are 1."""
    found = balance()
    found.see_judgement(rewards(a=0.0, b=0.0))
    found.see_judgement(rewards(a=3.0, b=-1.0))
    assert found.composite(rewards(a=3.0, b=-1.0)) == pytest.approx(5 / 3)


def test_kind_without_advantages_is_asked_for_less_and_no_less_than_the_floor() -> None:
    shares = KindShares(["one", "two"], keep=0.5, floor=0.2)
    for _ in range(30):
        shares.see_rollout(["one", "two"], torch.tensor([[0.0, 0.0], [-1.0, 1.0]]))
    assert shares.factors().tolist() == pytest.approx([0.2, 1.0], abs=1e-4)
