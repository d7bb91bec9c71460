"""The gradient of distribution matching distillation."""

import pytest
import torch

from qi2.models import flow
from qi2.objectives.dmd import augmentation_gradient, dmd_gradient, dmd_losses

T = torch.tensor([0.2, 0.5, 0.8])


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 2, 2, generator=draw)
    return x, flow.interpolate(x, torch.randn(x.shape, generator=draw), T)


def single(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value)


def score(x_t: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """s = -(x_t - (1 - t) x0) / t^2."""
    t = flow.expand(T, x_t)
    return -(x_t - (1 - t) * flow.to_x0(x_t, v, T)) / t**2


def test_hand_computed_gradient() -> None:
    """x_t 2 at t 0.5: velocity 1 points to 1.5, velocity 4 to 0; the sample 1 is 1 away from the teacher's 0."""
    assert dmd_gradient(single(1.0), single(2.0), torch.tensor([0.5]), single(1.0), single(4.0)).item() == pytest.approx(1.5 - 0.0)


def test_hand_computed_augmentation() -> None:
    """x_t 2 at t 0.5: conditional 4 points to 0, unconditional 1 to 1.5; scale 3 moves twice that far, away from the unconditional one."""
    gradient = augmentation_gradient(single(4.0), single(2.0), torch.tensor([0.5]), single(4.0), single(1.0), 3.0)
    assert gradient.item() == pytest.approx(2 * 1.5 / 4)


def test_equal_scores_give_no_gradient() -> None:
    x, x_t = samples()
    v = torch.randn(x.shape)
    assert dmd_gradient(x, x_t, T, v, v).abs().max() == 0


def test_gradient_is_the_difference_of_scores_up_to_a_factor_per_sample() -> None:
    x, x_t = samples()
    fake, real = torch.randn(x.shape), torch.randn(x.shape)
    ratio = dmd_gradient(x, x_t, T, fake, real) / (score(x_t, fake) - score(x_t, real))
    assert (ratio > 0).all()
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio), rtol=1e-3, atol=1e-5)


def test_difference_of_scores_in_flow_form() -> None:
    """s_fake - s_real = (1 - t) / t^2 (x0_fake - x0_real) = -(1 - t) / t (v_fake - v_real)."""
    x, x_t = samples()
    fake, real = torch.randn(x.shape), torch.randn(x.shape)
    t, difference = flow.expand(T, x), score(x_t, fake) - score(x_t, real)
    torch.testing.assert_close(difference, (1 - t) / t**2 * (flow.to_x0(x_t, fake, T) - flow.to_x0(x_t, real, T)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(difference, -(1 - t) / t * (fake - real), rtol=1e-4, atol=1e-4)


def test_augmentation_and_matching_at_one_time_are_the_guided_gradient() -> None:
    x, x_t = samples()
    fake, v_c, v_u = (torch.randn(x.shape) for _ in range(3))
    guided = v_u + 2.5 * (v_c - v_u)

    def distance(v: torch.Tensor) -> torch.Tensor:
        return flow.expand((x - flow.to_x0(x_t, v, T)).abs().flatten(1).mean(1), x)

    apart = dmd_gradient(x, x_t, T, fake, v_c) + augmentation_gradient(x, x_t, T, v_c, v_u, 2.5)
    torch.testing.assert_close(apart * distance(v_c), dmd_gradient(x, x_t, T, fake, guided) * distance(guided))


def test_scale_one_augments_nothing() -> None:
    x, x_t = samples()
    assert augmentation_gradient(x, x_t, T, torch.randn(x.shape), torch.randn(x.shape), 1.0).abs().max() == 0


def test_derivative_of_the_loss_is_the_gradient() -> None:
    x, _ = samples()
    x.requires_grad_(True)
    gradient = torch.randn(x.shape)
    dmd_losses(x, gradient).sum().backward()
    torch.testing.assert_close(x.grad, gradient / x[0].numel())


def test_a_student_of_one_parameter_finds_the_teachers_mean() -> None:
    """Student N(m, 1), teacher N(2, 1), with exact scores: m must arrive at 2."""
    draw, m = torch.Generator().manual_seed(0), torch.zeros(1, requires_grad=True)

    def velocity(x_t: torch.Tensor, t: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        t = flow.expand(t, x_t)
        return ((2 * t - 1) * x_t - t * mean) / ((1 - t) ** 2 + t**2)

    for _ in range(200):
        x = m + torch.randn(64, 1, 1, 1, generator=draw)
        t = flow.logit_normal((64,), 0.0, 1.0, draw)
        x_t = flow.interpolate(x.detach(), torch.randn(x.shape, generator=draw), t)
        gradient = dmd_gradient(x.detach(), x_t, t, velocity(x_t, t, m.detach()), velocity(x_t, t, torch.tensor(2.0)))
        dmd_losses(x, gradient).mean().backward()
        with torch.no_grad():
            m -= 0.05 * m.grad
            m.grad = None
    assert float(m.detach()) == pytest.approx(2.0, abs=0.15)
