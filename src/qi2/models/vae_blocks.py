"""Blocks of the residual autoencoder: normalisation, residual block, attention, and the shortcuts that have no parameters.

The shortcuts are DC-AE's (Chen et al., 2025; report section 3.1): space folded into channels and averaged on the way down,
channels repeated and unfolded into space on the way up. Every convolutional stage learns a residual to them.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qi2.core.errors import QI2Error
from qi2.models.vae_config import VAEArchitecture


class ChannelRMSNorm(nn.Module):
    """Scale every position's channel vector to a root mean square of 1, times a learned gain; computed in fp32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(1, keepdim=True) + 1e-6)
        return x * (scale.to(x.dtype) * self.gain.to(x.dtype)[:, None, None])


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), (B,in,H,W) -> (B,out,H,W); a 1x1 convolution carries x where the widths differ."""

    def __init__(self, width_in: int, width_out: int, kernel: int = 3) -> None:
        super().__init__()
        self.norm1, self.conv1 = ChannelRMSNorm(width_in), same_size(width_in, width_out, kernel)
        self.norm2, self.conv2 = ChannelRMSNorm(width_out), same_size(width_out, width_out, kernel)
        nn.init.zeros_(self.conv2.weight)  # a new block changes nothing
        nn.init.zeros_(cast(Tensor, self.conv2.bias))
        self.carry = nn.Identity() if width_in == width_out else nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.carry(x) + self.conv2(F.silu(self.norm2(h)))


def same_size(width_in: int, width_out: int, kernel: int) -> nn.Conv2d:
    """A convolution that keeps height and width."""
    return nn.Conv2d(width_in, width_out, kernel, padding=kernel // 2)


class SpatialAttention(nn.Module):
    """x + single-head self-attention over all positions, (B,C,H,W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.to_qkv, self.to_out = ChannelRMSNorm(channels), nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.to_qkv(self.norm(x)).reshape(b, 3, 1, c, h * w).transpose(-1, -2).unbind(1)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.to_out(y.transpose(-1, -2).reshape(b, c, h, w))


def average_down(x: Tensor, channels: int, factor: int = 2) -> Tensor:
    """Shortcut without parameters, (B,C,H,W) -> (B,channels,H/factor,W/factor): fold space into channels, average groups of them.

    Where the folded channels are fewer than ``channels`` (a stage that widens and keeps its size) they are repeated instead.
    """
    folded = F.pixel_unshuffle(x, factor)
    if folded.shape[1] < channels:
        return folded.repeat_interleave(channels // folded.shape[1], 1)
    return folded.unflatten(1, (channels, -1)).mean(2)


def duplicate_up(x: Tensor, channels: int, factor: int = 2) -> Tensor:
    """Shortcut without parameters, (B,C,H,W) -> (B,channels,H*factor,W*factor): repeat channels, unfold them into space."""
    return F.pixel_shuffle(x.repeat_interleave(channels * factor**2 // x.shape[1], 1), factor)


class FoldDown(nn.Sequential):
    """Halve height and width: fold 2x2 positions into channels, then a convolution."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__(nn.PixelUnshuffle(2), same_size(4 * width, width, kernel))


class StrideDown(nn.Sequential):
    """Halve height and width: a 3x3 convolution of stride 2."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(width, width, 3, stride=2))


class UnfoldUp(nn.Sequential):
    """Double height and width: a convolution to four times the channels, unfolded into 2x2 positions."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__(same_size(width, 4 * width, kernel), nn.PixelShuffle(2))


class NearestUp(nn.Sequential):
    """Double height and width: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__(nn.Upsample(scale_factor=2.0, mode="nearest-exact"), same_size(width, width, 3))


RESAMPLERS: dict[str, tuple[type[nn.Sequential], type[nn.Sequential]]] = {"stride": (StrideDown, NearestUp), "fold": (FoldDown, UnfoldUp)}


class DownStage(nn.Module):
    """Residual blocks, then (unless last) a halving, beside ``average_down``; (B,in,H,W) -> (B,out,H/2,W/2)."""

    def __init__(self, width_in: int, width_out: int, blocks: int, down: bool, cfg: VAEArchitecture) -> None:
        super().__init__()
        self.width, self.factor = width_out, 2 if down else 1
        if width_in * self.factor**2 % width_out and width_out % (width_in * self.factor**2):
            raise QI2Error(f"vae.model: {width_in} channels cannot be averaged into {width_out}; choose other multipliers")
        self.blocks = blocks_of(width_in, width_out, blocks, cfg.kernel)
        self.resample = RESAMPLERS[cfg.resampling][0](width_out, cfg.kernel) if down else nn.Identity()  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        return self.resample(self.blocks(x)) + average_down(x, self.width, self.factor)


class UpStage(nn.Module):
    """Residual blocks, then (unless last) a doubling, beside ``duplicate_up``; (B,in,H,W) -> (B,out,2H,2W).

    The last stage, next to the image, keeps its size and has no shortcut beyond its blocks' own.
    """

    def __init__(self, width_in: int, width_out: int, blocks: int, up: bool, cfg: VAEArchitecture) -> None:
        super().__init__()
        self.width = width_out
        if up and width_out * 4 % width_in:
            raise QI2Error(f"vae.model: {width_in} channels cannot be repeated into {width_out}; choose other multipliers")
        self.blocks = blocks_of(width_in, width_out, blocks, cfg.kernel)
        self.resample = RESAMPLERS[cfg.resampling][1](width_out, cfg.kernel) if up else None  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        h = self.blocks(x)
        return h if self.resample is None else self.resample(h) + duplicate_up(x, self.width)


def blocks_of(width_in: int, width_out: int, count: int, kernel: int) -> nn.Sequential:
    """``count`` residual blocks, the first of which changes the width."""
    return nn.Sequential(*(ResidualBlock(width_in if i == 0 else width_out, width_out, kernel) for i in range(count)))
