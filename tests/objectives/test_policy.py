"""Advantages and policy objectives."""

import pytest
import torch

from qi2.models import flow
from qi2.objectives.policy import advantages, log_probability, nft_loss, ratio_loss, relative, sde_step, spread

REWARDS = torch.tensor([[0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.2, 0.4, 0.6, 0.8]])


@pytest.mark.parametrize("scale", ["batch", "group"])
def test_group_without_spread_has_no_advantage(scale: str) -> None:
    result = advantages({"a": REWARDS}, {"a": 1.0}, scale)
    assert result[1].abs().max() == 0
    assert result.mean(dim=1).abs().max() < 1e-6
    assert result[0, 1] > 0 > result[0, 0]


def test_batch_scale_keeps_the_order_of_group_spreads() -> None:
    wide, narrow = relative(torch.tensor([[0.0, 1.0], [0.0, 0.1]]), "batch").abs().amax(dim=1)
    assert wide / narrow == pytest.approx(10, rel=1e-3)
    wide, narrow = relative(torch.tensor([[0.0, 1.0], [0.0, 0.1]]), "group").abs().amax(dim=1)
    assert wide / narrow == pytest.approx(1, rel=1e-2)


def test_weight_counts_the_same_for_rewards_of_different_ranges() -> None:
    one = advantages({"a": REWARDS, "b": REWARDS.flip(1)}, {"a": 2.0, "b": 1.0})
    other = advantages({"a": REWARDS, "b": 100 * REWARDS.flip(1)}, {"a": 2.0, "b": 1.0})
    torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


def test_reward_that_does_not_apply_to_a_group_leaves_the_others_alone() -> None:
    missing = REWARDS.clone()
    missing[0] = float("nan")
    result = advantages({"a": REWARDS, "b": missing}, {"a": 1.0, "b": 1.0})
    assert not result.isnan().any()
    assert spread(missing)[0] == 0
    assert result[0, 1] > 0 > result[0, 0]


def test_advantages_stay_within_the_limit() -> None:
    assert advantages({"a": torch.eye(20)}, {"a": 1.0}, limit=1.5).max() == 1.5


def nft_direction(optimality: float, beta: float = 1.0) -> float:
    """How much a small step down the loss's gradient brings the prediction nearer to the sample."""
    draw = torch.Generator().manual_seed(0)
    x0, noise, old = (torch.randn(3, 4, 2, 2, generator=draw) for _ in range(3))
    t = torch.tensor([0.3, 0.6, 0.9])
    x_t = flow.interpolate(x0, noise, t)
    new = old.clone().requires_grad_(True)
    nft_loss(new, old, x_t, x0, t, torch.full((3,), optimality), beta).backward()
    before = (flow.to_x0(x_t, old, t) - x0).square().mean()
    after = (flow.to_x0(x_t, old - 1e-2 * new.grad, t) - x0).square().mean()
    return float(before - after)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_forward_process_objective_moves_towards_good_samples_and_away_from_bad_ones(beta: float) -> None:
    assert nft_direction(1.0, beta) > 0
    assert nft_direction(0.0, beta) < 0
    assert abs(nft_direction(0.5, beta)) < 1e-6 * nft_direction(1.0, beta)


def test_stochastic_sampling_keeps_the_marginal_distribution() -> None:
    """Data N(0, 0.5^2) has a linear velocity in closed form; Flow-SDE must end at the same spread as the data."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(20000, 1, 1, 1, generator=draw)
    times = torch.linspace(1, 0, 101).tolist()
    for now, after in zip(times[:-1], times[1:], strict=True):
        velocity = x * (now - (1 - now) * 0.25) / ((1 - now) ** 2 * 0.25 + now**2)
        if after > 0:
            mean, std = sde_step(x, velocity, now, after, 0.7, times[1])
            x = mean + std * torch.randn(x.shape, generator=draw)
        else:
            x = x + (after - now) * velocity
    assert float(x.std()) == pytest.approx(0.5, abs=0.02)


def test_on_policy_ratio_is_one_and_a_clipped_one_gives_no_gradient() -> None:
    x_next, mean = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3, requires_grad=True)
    advantage = torch.tensor([1.0, -1.0, 2.0, 0.0])
    same = log_probability(x_next, mean, 0.3)
    assert float(ratio_loss(same, same.detach(), advantage, 0.01).detach()) == pytest.approx(-0.5)
    ratio_loss(same, same.detach() - 1, torch.ones(4), 0.01).backward()
    assert mean.grad is not None
    assert mean.grad.abs().max() == 0


def test_ratio_of_a_guided_step_is_far_from_one_under_the_conditional_branch() -> None:
    """Why a ratio objective has to recompute the old log-probability when only the rollout is guided."""
    draw = torch.Generator().manual_seed(0)
    x, conditional, unconditional = (torch.randn(2, 64, 4, 4, generator=draw) for _ in range(3))
    guided = unconditional + 4 * (conditional - unconditional)
    mean, std = sde_step(x, guided, 0.5, 0.4, 0.7, 0.9)
    x_next = mean + std * torch.randn(x.shape, generator=draw)
    under_conditional = log_probability(x_next, *sde_step(x, conditional, 0.5, 0.4, 0.7, 0.9))
    assert (under_conditional - log_probability(x_next, mean, std)).exp().max() < 0.9
