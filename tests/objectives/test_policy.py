"""Advantages and policy objectives."""

import pytest
import torch

from qi2.models import flow
from qi2.objectives.policy import advantages, divergence, gaussian_kl, log_ratio, nft_loss, ratio_loss, relative, sde_step, spread

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


STD = 0.5  # of the data, of which the exact velocity is known


def gaussian_velocity(x: torch.Tensor, t: float) -> torch.Tensor:
    """Of the flow from N(0, 1) at t = 1 to data N(0, STD^2): E[noise - x0 | x_t = x]."""
    return x * (t - (1 - t) * STD**2) / ((1 - t) ** 2 * STD**2 + t**2)


def end_spread(steps: int, window: range, samples: int = 20000) -> float:
    """Deviation at t = 0 of samples from noise, with Flow-SDE steps inside the window and Euler steps outside."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 1, 1, 1, generator=draw)
    times = torch.linspace(1, 0, steps + 1).tolist()
    for i, (now, after) in enumerate(zip(times[:-1], times[1:], strict=True)):
        mean, std = sde_step(x, gaussian_velocity(x, now), now, after, 0.7 if i in window else 0.0, times[1])
        x = mean + std * torch.randn(x.shape, generator=draw) if i in window else mean
    return float(x.std())


def test_stochastic_sampling_keeps_the_marginal_distribution_as_steps_grow() -> None:
    errors = [abs(end_spread(steps, range(steps - 1)) - STD) for steps in (10, 40, 160)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_a_window_of_noise_keeps_the_marginal_too() -> None:
    assert end_spread(160, range(20, 60)) == pytest.approx(STD, abs=0.01)


def test_without_noise_the_step_is_eulers() -> None:
    x, v = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    mean, std = sde_step(x, v, 0.6, 0.4, 0.0, 0.8)
    torch.testing.assert_close(mean, x - 0.2 * v)
    assert std == 0


def test_stochastic_step_by_hand() -> None:
    """rate = 0.7 sqrt(0.5 / 0.5) = 0.7; mean = x (1 + 0.49 / 1 * -0.1) + v (1 + 0.49 * 0.5) * -0.1; std = 0.7 sqrt(0.1)."""
    mean, std = sde_step(torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 3.0), 0.5, 0.4, 0.7, 0.9)
    assert float(mean) == pytest.approx(2 * 0.951 - 3 * 0.1245)
    assert std == pytest.approx(0.7 * 0.1**0.5)


def test_first_step_takes_the_second_time_for_its_noise() -> None:
    """At t = 1 the rate would be infinite: 0.7 sqrt(1 / (1 - 0.8)) instead."""
    assert sde_step(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), 1.0, 0.8, 0.7, 0.8)[1] == pytest.approx(0.7 * 5**0.5 * 0.2**0.5)


def a_step(std: float = 0.3, size: float = 1e-2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, new mean, old mean and the old noise eps of a step: x = old mean + std eps."""
    draw = torch.Generator().manual_seed(0)
    old, eps, d = (torch.randn(5, 4, 8, 8, generator=draw, dtype=torch.float64) for _ in range(3))
    return old + std * eps, old + size * d, old, eps


@pytest.mark.parametrize("guard", [False, True])
def test_ratio_of_equal_means_is_exactly_one(guard: bool) -> None:
    x, _, old, _ = (value.float() for value in a_step())
    assert log_ratio(x, old, old, 0.3, guard).exp().eq(1).all()


def test_guarded_log_ratio_is_the_mean_of_noise_times_the_shift() -> None:
    x, new, old, eps = a_step()
    torch.testing.assert_close(log_ratio(x, new, old, 0.3, guard=True), (eps * (new - old)).flatten(1).mean(dim=1))


def test_plain_log_ratio_is_biased_down_by_half_the_squared_shift() -> None:
    x, new, old, eps = a_step()
    d = new - old
    expected = (eps * d).flatten(1).mean(dim=1) / 0.3 - d.square().flatten(1).mean(dim=1) / (2 * 0.3**2)
    torch.testing.assert_close(log_ratio(x, new, old, 0.3), expected)


def test_guard_makes_ratios_of_early_and_late_steps_alike() -> None:
    """The same shift of the mean, in deviations ten times apart: only the guarded ratio is the same."""
    guarded, plain = [], []
    for std in (0.5, 0.05):
        x, new, old, _ = a_step(std)
        guarded.append(log_ratio(x, new, old, std, guard=True))
        plain.append(log_ratio(x, new, old, std))
    torch.testing.assert_close(guarded[0], guarded[1])
    assert plain[1].abs().mean() > 5 * plain[0].abs().mean()


def test_kl_of_a_step_is_that_of_two_gaussians() -> None:
    """0.5^2 / (2 * 0.25^2) = 2, and the paper's (dt / 2) (sigma (1 - t) / (2 t) + 1 / sigma)^2 |v - v_ref|^2 for a difference of velocities."""
    zero = torch.zeros(1, 2, 3, 3)
    assert float(gaussian_kl(zero + 0.5, zero, 0.25)) == pytest.approx(2.0)
    x, v, w = (torch.randn(2, 4, 3, 3, dtype=torch.float64) for _ in range(3))
    (mean, std), (reference, _) = sde_step(x, v, 0.6, 0.5, 0.7, 0.9), sde_step(x, w, 0.6, 0.5, 0.7, 0.9)
    sigma = 0.7 * (0.6 / 0.4) ** 0.5
    paper = 0.1 / 2 * (sigma * 0.4 / (2 * 0.6) + 1 / sigma) ** 2 * divergence(v, w)
    torch.testing.assert_close(gaussian_kl(mean, reference, std), paper)


def test_clipped_objective_by_hand() -> None:
    """Ratios 1.5 and 0.5, clip 0.2: a good sample counts at most 1.2, a bad one at least 0.8 times, and what makes things worse is not clipped."""
    log = torch.tensor([1.5, 0.5, 1.5, 0.5]).log()
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert float(ratio_loss(log, advantage, 0.2)) == pytest.approx((-1.2 - 0.5 + 1.5 + 0.8) / 4)


def test_a_clipped_ratio_gives_no_gradient() -> None:
    x, new, old, _ = a_step(size=0.5)
    new.requires_grad_(True)
    worse = log_ratio(x, new, old, 0.3).detach() < -0.01
    ratio_loss(log_ratio(x, new, old, 0.3), -worse.double(), 0.01).backward()
    assert new.grad is not None
    assert new.grad.abs().max() == 0


def test_ratio_of_a_guided_step_is_far_from_one_under_the_conditional_branch() -> None:
    """Why a ratio objective has to recompute the old log-probability when only the rollout is guided."""
    draw = torch.Generator().manual_seed(0)
    x, conditional, unconditional = (torch.randn(2, 64, 4, 4, generator=draw) for _ in range(3))
    guided = unconditional + 4 * (conditional - unconditional)
    mean, std = sde_step(x, guided, 0.5, 0.4, 0.7, 0.9)
    x_next = mean + std * torch.randn(x.shape, generator=draw)
    assert log_ratio(x_next, sde_step(x, conditional, 0.5, 0.4, 0.7, 0.9)[0], mean, std).exp().max() < 0.9


def test_nft_by_hand() -> None:
    """One value: x0 = 0, x_t = 1, t = 0.5, old v = 1, new v = 1.2, beta 0.5. v+ = 1.1, v- = 0.9: errors 0.45 and 0.55, each over its own size."""
    one = torch.ones(1, 1, 1, 1)
    loss = nft_loss(1.2 * one, one, one, 0 * one, torch.tensor([0.5]), torch.tensor([0.7]), beta=0.5)
    assert float(loss) == pytest.approx((0.7 * 0.45 + 0.3 * 0.55) / 0.5)


def test_gdpo_by_hand() -> None:
    """Two groups, two rewards of different ranges: +-1 each after normalising by group; weights 3 and 1 give +-4, +-2, over the batch's root mean square."""
    a = torch.tensor([[0.0, 2.0], [0.0, 0.2]])
    b = torch.tensor([[10.0, 30.0], [30.0, 10.0]])
    size = 10**0.5  # of 4, 4, 2, 2
    found = advantages({"a": a, "b": b}, {"a": 3.0, "b": 1.0}, "group")
    torch.testing.assert_close(found, torch.tensor([[-4.0, 4.0], [-2.0, 2.0]]) / size, atol=2e-3, rtol=0)
