"""Losses of the autoencoder (report section 3.1): reconstruction, perceptual, semantic alignment, KL. No adversarial loss.

Every function is pure: tensors in, a scalar tensor out, averaged over the batch and all positions, so that weights do not
depend on the image size. Images are (B,3,H,W) in [-1,1]; latents and features are (B,C,h,w).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def reconstruction_loss(output: Tensor, target: Tensor, gradient_weight: float = 1.0, square_weight: float = 0.0) -> Tensor:
    """Mean absolute error, plus that of the differences between neighbouring pixels (edges), plus the squared error if asked for."""
    error = output - target
    loss = error.abs().mean()
    if gradient_weight:
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        loss = loss + gradient_weight * edges
    return loss + square_weight * error.square().mean() if square_weight else loss


def perceptual_loss(output: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """LPIPS without learned weights: squared distance of features normalised over channels, averaged over layers and positions.

    ``output`` and ``target`` hold the same layers' features of the reconstruction and of the image.
    """
    distances = [(F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean() for a, b in zip(output, target, strict=True)]
    return torch.stack(distances).mean()


def kl_loss(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence from the standard normal, in nats per latent value."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def distance_matrix_loss(latents: Tensor, features: Tensor, margin: float = 0.0) -> Tensor:
    """VA-VAE's marginal distance-matrix similarity: within each image, positions that the teacher finds alike shall be alike.

    ``latents`` (B,C,h,w) and ``features`` (B,F,h,w) lie on one grid; their channels need not match. Differences of two
    cosines below ``margin`` cost nothing.
    """
    ours, theirs = (F.normalize(x.flatten(2), dim=1) for x in (latents, features))
    difference = ours.mT @ ours - theirs.mT @ theirs
    return F.relu(difference.abs() - margin).mean()


def marginal_cosine_loss(projected: Tensor, features: Tensor, margin: float = 0.0) -> Tensor:
    """VA-VAE's marginal cosine similarity: each position's latent, projected to the teacher's width, shall point as its feature does.

    A cosine above ``1 - margin`` costs nothing.
    """
    return F.relu(1 - margin - F.cosine_similarity(projected, features, dim=1)).mean()


def alignment_loss(projected: Tensor, features: Tensor, distance_margin: float = 0.0, cosine_margin: float = 0.0) -> Tensor:
    """VA-VAE's loss (Yao et al., 2025): both terms with weight 1, on latents projected to the teacher's width (B,F,h,w)."""
    return distance_matrix_loss(projected, features, distance_margin) + marginal_cosine_loss(projected, features, cosine_margin)


def adaptive_weight(reference: Tensor, loss: Tensor, shared: nn.Parameter, largest: float = 1e4) -> Tensor:
    """|d reference / d shared| / |d loss / d shared|: with it, both losses pull equally hard on ``shared``, the encoder's last layer.

    Needs the graphs of both losses and keeps them; the result carries no gradient.
    """
    pull = torch.autograd.grad(reference, shared, retain_graph=True)[0].norm()
    other = torch.autograd.grad(loss, shared, retain_graph=True)[0].norm()
    return (pull / (other + 1e-4)).clamp(0, largest).detach()
