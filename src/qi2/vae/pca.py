"""Start of the linear skip: principal components of image patches, so that a small model reconstructs before it is trained.

The components are scaled by their standard deviation to the power ``-whitening`` and then turned by a fixed random rotation.
The rotation gives every latent channel about the same variance, so that the per-channel normalisation of the finished
latents is nearly one common factor and does not blow the faint components up to the size of the strong ones.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.core.rng import generator
from qi2.models.vae import VAE


@dataclass
class PatchStatistics:
    """Mean colour (3,), and covariance (D, D) about it of the D = 3 * factor**2 values of a patch, channel first; float64."""

    colour: Tensor
    covariance: Tensor


def patches(images: Tensor, factor: int) -> Tensor:
    """Non-overlapping patches of (B,3,H,W) as rows (N, 3 * factor**2), channel first inside a row."""
    return F.pixel_unshuffle(images, factor).movedim(1, -1).flatten(0, -2)


def patch_statistics(batches: Iterable[Tensor], factor: int) -> PatchStatistics:
    """Mean colour and covariance over batches of images of any size."""
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for images in batches:
        rows = patches(images, factor).double()
        count, total, square = count + len(rows), total + rows.sum(0), square + rows.mT @ rows
    if count == 0:
        raise QI2Error("no training images for the VAE's PCA start; check the curated tables")
    mean = total / count
    colour = mean.reshape(-1, factor**2).mean(1)
    offset = colour.repeat_interleave(factor**2)
    cross = torch.outer(mean, offset)
    return PatchStatistics(colour, square / count - cross - cross.mT + torch.outer(offset, offset))


def principal_components(statistics: PatchStatistics, channels: int) -> tuple[Tensor, Tensor]:
    """The strongest ``channels`` components: directions (channels, D) with a fixed sign, and standard deviations (channels,)."""
    values, vectors = torch.linalg.eigh(statistics.covariance)
    directions = vectors.flip(1)[:, :channels].mT
    sign = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    return directions * sign, values.flip(0)[:channels].clamp_min(1e-10).sqrt()


@torch.no_grad()
def start_from_pca(vae: VAE, statistics: PatchStatistics, whitening: float, noise: float, seed: int) -> None:
    """Fill the linear skip with PCA and silence the network's last layers, so that the VAE starts as the PCA codec.

    ``whitening`` 0 keeps the components' own sizes, 1 makes them equal; the mean variance of a latent value is 1 either way.
    ``noise`` is the posterior's standard deviation at the start.
    """
    if vae.linear_in is None or vae.linear_out is None:
        raise QI2Error("a PCA start needs vae.model.linear_skip=true")
    channels, factor = vae.cfg.latent_channels, vae.cfg.factor
    directions, std = principal_components(statistics, channels)
    scale = std**-whitening
    scale = scale / (std * scale).square().mean().sqrt()
    turn = _rotation(channels, seed)
    inward, outward = turn @ (directions * scale[:, None]), turn @ (directions / scale[:, None])
    shape = (channels, vae.cfg.image_channels, factor, factor)
    vae.linear_in.weight.copy_(inward.reshape(shape))
    assert vae.linear_in.bias is not None and vae.linear_out.bias is not None and vae.encoder.conv_out.bias is not None
    vae.linear_in.bias.copy_(-inward @ statistics.colour.repeat_interleave(factor**2))
    vae.linear_out.weight.copy_(outward.reshape(shape))
    vae.linear_out.bias.copy_(statistics.colour)
    for layer in (vae.encoder.conv_out, vae.decoder.conv_out):
        torch.nn.init.zeros_(layer.weight)
        layer.bias.zero_()  # type: ignore[union-attr]
    vae.encoder.conv_out.bias[channels:] = 2 * math.log(noise)


def _rotation(size: int, seed: int) -> Tensor:
    """A random orthogonal matrix (size, size) in float64."""
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator(seed, "vae-rotation"), dtype=torch.float64))
    return q * r.diagonal().sign()
