"""Blocks of the residual autoencoder: normalisation, residual block, attention, and the shortcuts that have no parameters.

The shortcuts are DC-AE's (Chen et al., 2025; report section 3.1): space folded into channels and averaged on the way down,
channels repeated and unfolded into space on the way up. Every convolutional stage learns a residual to them.

The published Qwen-Image-2.1 autoencoder descends from a video autoencoder, some of whose stages halve time as well. For a single frame
their convolution over time never runs, but their shortcuts see a frame of zeros before the image (down) or keep the second of two (up).
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qi2.core.errors import QI2Error
from qi2.models.vae_config import VAEArchitecture


class ChannelRMSNorm(nn.Module):
    """Scale every position's channel vector to a root mean square of 1, times a learned gain; computed in fp32."""

    def __init__(self, channels: int, form: str = "rms") -> None:
        super().__init__()
        self.form = form
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        gain = self.gain.to(x.dtype)[:, None, None]
        if self.form == "l2":
            exact = x if x.dtype == torch.float64 else x.float()
            return F.normalize(exact, dim=1).to(x.dtype) * x.shape[1] ** 0.5 * gain
        scale = torch.rsqrt(x.float().square().mean(1, keepdim=True) + 1e-6)
        return x * (scale.to(x.dtype) * gain)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), (B,in,H,W) -> (B,out,H,W); a 1x1 convolution carries x where the widths differ."""

    def __init__(self, width_in: int, width_out: int, cfg: VAEArchitecture) -> None:
        super().__init__()
        self.norm1, self.conv1 = ChannelRMSNorm(width_in, cfg.normalisation), same_size(width_in, width_out, cfg.kernel)
        self.norm2, self.conv2 = ChannelRMSNorm(width_out, cfg.normalisation), same_size(width_out, width_out, cfg.kernel)
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

    def __init__(self, channels: int, cfg: VAEArchitecture) -> None:
        super().__init__()
        self.norm = ChannelRMSNorm(channels, cfg.normalisation)
        self.to_qkv, self.to_out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.to_qkv(self.norm(x)).reshape(b, 3, 1, c, h * w).transpose(-1, -2).unbind(1)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.to_out(y.transpose(-1, -2).reshape(b, c, h, w))


def average_down(x: Tensor, channels: int, factor: int = 2, temporal: bool = False) -> Tensor:
    """Shortcut without parameters, (B,C,H,W) -> (B,channels,H/factor,W/factor): fold space into channels, average groups of them.

    Where the folded channels are fewer than ``channels`` (a stage that widens and keeps its size) they are repeated instead.
    With ``temporal`` time is folded too: each channel's zeros of the frame before stand ahead of its positions.
    """
    folded = F.pixel_unshuffle(x, factor)
    if temporal:
        places = folded.unflatten(1, (x.shape[1], factor**2))
        folded = torch.cat([torch.zeros_like(places), places], 2).flatten(1, 2)
    if folded.shape[1] < channels:
        return folded.repeat_interleave(channels // folded.shape[1], 1)
    return folded.unflatten(1, (channels, -1)).mean(2)


def duplicate_up(x: Tensor, channels: int, factor: int = 2, temporal: bool = False) -> Tensor:
    """Shortcut without parameters, (B,C,H,W) -> (B,channels,H*factor,W*factor): repeat channels, unfold them into space.

    With ``temporal`` they are unfolded into two frames as well, of which the second is kept.
    """
    frames = 2 if temporal else 1
    repeated = x.repeat_interleave(channels * frames * factor**2 // x.shape[1], 1)
    if temporal:
        repeated = repeated.unflatten(1, (channels, frames, factor**2))[:, :, -1].flatten(1, 2)
    return F.pixel_shuffle(repeated, factor)


class UnusedTimeConv(nn.Module):
    """Weights (out,in,1,1) of the video autoencoder's convolution over time, kept so that a published file comes out as it went in.

    They never run on an image and never train; of a new model they are zero.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width_out, width_in, 1, 1), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(width_out), requires_grad=False)


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


class PatchOut(nn.ConvTranspose2d):
    """Every position becomes a patch of pixels of its own, (B,C,H,W) -> (B,out,H*side,W*side), for a stride as wide as the kernel.

    Computed as one matrix product whose channels are unfolded into space: on a CPU a third of a transposed convolution's time.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        bias = None if self.bias is None else self.bias.repeat_interleave(self.kernel_size[0] ** 2)
        return F.pixel_shuffle(F.conv2d(x, self.weight.flatten(1).t()[:, :, None, None], bias), self.kernel_size[0])


RESAMPLERS: dict[str, tuple[type[nn.Sequential], type[nn.Sequential]]] = {"stride": (StrideDown, NearestUp), "fold": (FoldDown, UnfoldUp)}


class DownStage(nn.Module):
    """Residual blocks, then (unless last) a halving, beside ``average_down``; (B,in,H,W) -> (B,out,H/2,W/2)."""

    def __init__(self, width_in: int, width_out: int, index: int, cfg: VAEArchitecture) -> None:
        super().__init__()
        down = index < len(cfg.multipliers) - 1
        self.width, self.factor, self.temporal = width_out, 2 if down else 1, down and cfg.temporal(index)
        folded = width_in * self.factor**2 * (2 if self.temporal else 1)
        if folded % width_out and width_out % folded:
            raise QI2Error(f"vae.model: {width_in} channels cannot be averaged into {width_out}; choose other multipliers")
        self.blocks = blocks_of(width_in, width_out, cfg.encoder_blocks[index], cfg)
        self.resample = RESAMPLERS[cfg.resampling][0](width_out, cfg.kernel) if down else nn.Identity()  # type: ignore[call-overload]
        self.time_conv = UnusedTimeConv(width_out, width_out) if self.temporal else None

    def forward(self, x: Tensor) -> Tensor:
        return self.resample(self.blocks(x)) + average_down(x, self.width, self.factor, self.temporal)


class UpStage(nn.Module):
    """Residual blocks, then (unless last) a doubling, beside ``duplicate_up``; (B,in,H,W) -> (B,out,2H,2W).

    ``index`` counts from the image, as in the encoder. The stage next to the image (0) keeps its size and has no shortcut beyond its blocks' own.
    """

    def __init__(self, width_in: int, width_out: int, index: int, cfg: VAEArchitecture) -> None:
        super().__init__()
        up = index > 0
        self.width, self.temporal = width_out, up and cfg.temporal(index - 1)
        if up and width_out * 4 * (2 if self.temporal else 1) % width_in:
            raise QI2Error(f"vae.model: {width_in} channels cannot be repeated into {width_out}; choose other multipliers")
        self.blocks = blocks_of(width_in, width_out, cfg.decoder_blocks[index], cfg)
        self.resample = RESAMPLERS[cfg.resampling][1](width_out, cfg.kernel) if up else None  # type: ignore[call-overload]
        self.time_conv = UnusedTimeConv(width_out, 2 * width_out) if self.temporal else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.blocks(x)
        return h if self.resample is None else self.resample(h) + duplicate_up(x, self.width, temporal=self.temporal)


def blocks_of(width_in: int, width_out: int, count: int, cfg: VAEArchitecture) -> nn.Sequential:
    """``count`` residual blocks, the first of which changes the width."""
    return nn.Sequential(*(ResidualBlock(width_in if i == 0 else width_out, width_out, cfg) for i in range(count)))
