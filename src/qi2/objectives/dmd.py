"""Distribution matching distillation (report section 4.3, equations 4 and 5; Yin et al., 2024)."""

from torch import Tensor

from qi2.models import flow


def dmd_gradient(x: Tensor, x_t: Tensor, t: Tensor, fake: Tensor, real: Tensor) -> Tensor:
    """Gradient (B, C, h, w) of equation 4 at the student's samples x, without gradient itself.

    fake, real: velocities of the fake score model and of the (guided) teacher at x_t. In this convention
    s_fake - s_real = (1 - t) / t^2 (x0_fake - x0_real); DMD2 replaces the factor by 1 / mean|x - x0_real| per sample,
    which makes noise levels comparable.
    """
    x0_fake, x0_real = flow.to_x0(x_t, fake, t), flow.to_x0(x_t, real, t)
    size = (x - x0_real).abs().flatten(1).mean(dim=1).clamp(min=1e-6)
    return ((x0_fake - x0_real) / flow.expand(size, x)).detach()


def dmd_loss(x: Tensor, gradient: Tensor) -> Tensor:
    """A scalar whose derivative with respect to x is ``gradient`` / x.numel()."""
    return 0.5 * (x - (x - gradient).detach()).square().mean()
