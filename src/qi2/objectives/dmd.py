"""Distribution matching distillation (report section 4.3, equations 4 and 5; Yin et al., 2024).

All take latents (B, C, h, w) and times (B,), with t = 1 noise. In this convention s = -(x_t - (1 - t) x0) / t^2, so that
s_fake - s_real = (1 - t) / t^2 (x0_fake - x0_real); DMD2 replaces the factor by 1 / mean|x - x0_real| per sample, which makes noise
levels comparable.
"""

from torch import Tensor

from qi2.models import flow


def dmd_gradient(x: Tensor, x_t: Tensor, t: Tensor, fake: Tensor, real: Tensor) -> Tensor:
    """Gradient (B, C, h, w) of equation 4 at the student's samples x, without gradient itself.

    fake, real: velocities of the fake score model and of the (guided) teacher at x_t.
    """
    x0_fake, x0_real = flow.to_x0(x_t, fake, t), flow.to_x0(x_t, real, t)
    return ((x0_fake - x0_real) / _distance(x, x0_real)).detach()


def augmentation_gradient(x: Tensor, x_t: Tensor, t: Tensor, conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """What guidance adds to `dmd_gradient` with an unguided teacher, at a time and noise of its own (Liu et al., 2025, "Decoupled DMD").

    conditional, unconditional: the teacher's velocities at x_t. At the same x_t and with the same divisor both together are
    `dmd_gradient` with the guided teacher v_u + scale (v_c - v_u): x0_fake - x0_guided = (x0_fake - x0_c) - (scale - 1) (x0_c - x0_u).
    """
    x0_c, x0_u = flow.to_x0(x_t, conditional, t), flow.to_x0(x_t, unconditional, t)
    return ((scale - 1) * (x0_u - x0_c) / _distance(x, x0_c)).detach()


def _distance(x: Tensor, x0: Tensor) -> Tensor:
    """Mean absolute difference per sample (B, 1, 1, 1)."""
    return flow.expand((x - x0).abs().flatten(1).mean(dim=1).clamp(min=1e-6), x)


def dmd_losses(x: Tensor, gradient: Tensor) -> Tensor:
    """One per sample (B,), whose derivative with respect to x is ``gradient`` / x[0].numel()."""
    return 0.5 * (x - (x - gradient).detach()).square().flatten(1).mean(dim=1)
