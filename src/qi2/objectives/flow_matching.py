"""Flow matching (Lipman et al., 2023; report section 4.1)."""

from torch import Tensor

from qi2.models import flow


def flow_matching_loss(velocity: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity (B, 64, h, w); a scalar."""
    return (velocity - flow.velocity(x0, noise)).square().mean()
