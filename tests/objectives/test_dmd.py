"""The gradient of distribution matching distillation."""

import pytest
import torch

from qi2.models import flow
from qi2.objectives.dmd import dmd_gradient, dmd_loss

T = torch.tensor([0.2, 0.5, 0.8])


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 2, 2, generator=draw)
    return x, flow.interpolate(x, torch.randn(x.shape, generator=draw), T)


def test_equal_scores_give_no_gradient() -> None:
    x, x_t = samples()
    v = torch.randn(x.shape)
    assert dmd_gradient(x, x_t, T, v, v).abs().max() == 0


def test_gradient_is_the_difference_of_scores_up_to_a_factor_per_sample() -> None:
    """Equation 4: s = -(x_t - (1 - t) x0) / t^2."""
    x, x_t = samples()
    fake, real = torch.randn(x.shape), torch.randn(x.shape)
    t = flow.expand(T, x)
    scores = [-(x_t - (1 - t) * flow.to_x0(x_t, v, T)) / t**2 for v in (fake, real)]
    ratio = dmd_gradient(x, x_t, T, fake, real) / (scores[0] - scores[1])
    assert (ratio > 0).all()
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio), rtol=1e-3, atol=1e-5)


def test_derivative_of_the_loss_is_the_gradient() -> None:
    x, _ = samples()
    x.requires_grad_(True)
    gradient = torch.randn(x.shape)
    dmd_loss(x, gradient).backward()
    torch.testing.assert_close(x.grad, gradient / x.numel())


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
        dmd_loss(x, gradient).backward()
        with torch.no_grad():
            m -= 0.05 * m.grad
            m.grad = None
    assert float(m.detach()) == pytest.approx(2.0, abs=0.15)
