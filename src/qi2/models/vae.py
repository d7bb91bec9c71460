"""The image autoencoder: f16c64, KL-regularised, residual with shortcuts that have no parameters (report section 3.1).

Images are (B,3,H,W), or (B,4,H,W) with transparency, in [-1,1] with H and W divisible by 16; latents are (B,64,H/16,W/16). `encode` and
`decode` speak normalised latents (mean 0, variance 1 per channel over the training images): the space in which the MMDiT works.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qi2.core.errors import QI2Error
from qi2.models.storage import load_network, save_network
from qi2.models.vae_blocks import ChannelRMSNorm, DownStage, PatchOut, ResidualBlock, SpatialAttention, UpStage, same_size
from qi2.models.vae_config import VAEArchitecture
from qi2.models.vae_tiling import in_tiles

LOGVAR_RANGE = (-30.0, 20.0)
ORIGIN = "diffusers.json"


class Middle(nn.Sequential):
    """Residual block, attention over the whole latent grid (optional), residual block."""

    def __init__(self, width: int, cfg: VAEArchitecture) -> None:
        first, last = ResidualBlock(width, width, cfg), ResidualBlock(width, width, cfg)
        super().__init__(*([first, SpatialAttention(width, cfg), last] if cfg.attention else [first, last]))


class Encoder(nn.Module):
    """Image (B,3 or 4,H,W) -> mean and log-variance of the latent, (B,2*64,H/16,W/16)."""

    def __init__(self, cfg: VAEArchitecture) -> None:
        super().__init__()
        widths = [cfg.encoder_base * m for m in cfg.multipliers]
        self.patch, self.checkpointing = cfg.patch, cfg.checkpointing
        self.conv_in = same_size(cfg.image_channels * cfg.patch**2, widths[0], cfg.kernel)
        sizes = zip([widths[0], *widths[:-1]], widths, strict=True)
        self.stages = nn.ModuleList(DownStage(a, b, i, cfg) for i, (a, b) in enumerate(sizes))
        self.middle = Middle(widths[-1], cfg)
        self.norm_out = ChannelRMSNorm(widths[-1], cfg.normalisation)
        self.conv_out = same_size(widths[-1], 2 * cfg.latent_channels, 3)

    def forward(self, images: Tensor) -> Tensor:
        h = self.conv_in(F.pixel_unshuffle(images, self.patch))
        for stage in self.stages:
            h = run(stage, h, self.checkpointing)
        h = self.middle(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class Decoder(nn.Module):
    """Latent (B,64,h,w), not normalised -> image (B,3 or 4,16h,16w), not clamped."""

    def __init__(self, cfg: VAEArchitecture) -> None:
        super().__init__()
        widths = [cfg.decoder_base * m for m in reversed(cfg.multipliers)]
        last = len(widths) - 1
        self.patch, self.checkpointing = cfg.patch, cfg.checkpointing
        self.conv_in = same_size(cfg.latent_channels, widths[0], 3)
        self.middle = Middle(widths[0], cfg)
        sizes = zip([widths[0], *widths[:-1]], widths, strict=True)
        self.stages = nn.ModuleList(UpStage(a, b, last - i, cfg) for i, (a, b) in enumerate(sizes))
        self.norm_out = ChannelRMSNorm(widths[-1], cfg.normalisation)
        self.conv_out = same_size(widths[-1], cfg.image_channels * cfg.patch**2, cfg.kernel)

    def forward(self, latents: Tensor) -> Tensor:
        h = self.middle(self.conv_in(latents))
        for stage in self.stages:
            h = run(stage, h, self.checkpointing)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h))), self.patch)


def run(stage: nn.Module, x: Tensor, checkpointing: bool) -> Tensor:
    """Apply ``stage``; with ``checkpointing`` its activations are recomputed in the backward pass."""
    return checkpoint(stage, x, use_reentrant=False) if checkpointing and torch.is_grad_enabled() else stage(x)


def opaque(images: Tensor) -> Tensor:
    """RGB images (B,3,H,W) in [-1,1] with a fourth channel that says that nothing shines through."""
    return F.pad(images, (0, 0, 0, 0, 0, 1), value=1.0)


def over_white(images: Tensor) -> Tensor:
    """RGBA images (B,4,H,W) in [-1,1] laid over white, (B,3,H,W); RGB images as they are."""
    if images.shape[1] == 3:
        return images
    cover = (images[:, 3:] + 1) / 2
    return images[:, :3] * cover + (1 - cover)


class VAE(nn.Module):
    """Encoder, decoder, what stands between or beside both, and the latents' mean and standard deviation per channel.

    ``origin`` is what `qi2.models.vae_diffusers` read beside the weights, so that it can write the same again; it travels with the folder.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, cfg: VAEArchitecture) -> None:
        super().__init__()
        cfg.check()
        self.cfg = cfg
        self.origin: dict[str, Any] = {}
        self.encoder, self.decoder = Encoder(cfg), Decoder(cfg)
        inner, outer, side = cfg.latent_channels, cfg.image_channels, cfg.factor
        self.quant_conv = nn.Conv2d(2 * inner, 2 * inner, 1) if cfg.quant_convs else None
        self.post_quant_conv = nn.Conv2d(inner, inner, 1) if cfg.quant_convs else None
        self.linear_in = nn.Conv2d(outer, inner, side, side) if cfg.linear_skip else None
        self.linear_out = PatchOut(inner, outer, side, side) if cfg.linear_skip else None
        self.register_buffer("latent_mean", torch.zeros(cfg.latent_channels))
        self.register_buffer("latent_std", torch.ones(cfg.latent_channels))

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each (B,64,H/16,W/16), of the latent's normal distribution; not normalised.

        Where the VAE is one for RGBA, RGB images count as opaque.
        """
        self._check_size(images)
        if images.shape[1] == 3 and self.cfg.image_channels == 4:
            images = opaque(images)
        moments = self.encoder(images)
        mean, logvar = (moments if self.quant_conv is None else self.quant_conv(moments)).chunk(2, 1)
        if self.linear_in is not None:
            mean = mean + self.linear_in(images)
        return mean, logvar.clamp(*LOGVAR_RANGE)

    def reconstruct(self, latents: Tensor) -> Tensor:
        """Image (B,3 or 4,H,W) of latents that are not normalised; not clamped, for training."""
        images = self.decoder(latents if self.post_quant_conv is None else self.post_quant_conv(latents))
        return images if self.linear_out is None else images + self.linear_out(latents)

    def encode(self, images: Tensor) -> Tensor:
        """Normalised latents (the posterior's mean) of images in [-1,1]; large images in tiles (``cfg.tiling``)."""
        self._check_size(images)
        mean = in_tiles(lambda part: self.posterior(part)[0], images, self.cfg.factor, 1, self.cfg)
        return (mean - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Images in [-1,1] of normalised latents; large images in tiles (``cfg.tiling``)."""
        latents = latents * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
        return in_tiles(self.reconstruct, latents, 1, self.cfg.factor, self.cfg).clamp(-1, 1)

    def _check_size(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if height % self.cfg.factor or width % self.cfg.factor:
            raise QI2Error(f"image of {height}x{width} px: both sides must be divisible by {self.cfg.factor}; crop or resize it first")

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors into ``folder``."""
        save_network(self, self.cfg, folder)
        if self.origin:
            (Path(folder) / ORIGIN).write_text(json.dumps(self.origin, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "VAE":
        """Read a folder written by `save`; in evaluation mode, with gradients switched off. QI2Error where it is incomplete."""
        vae = load_network(cls, VAEArchitecture, folder).requires_grad_(False)
        if (Path(folder) / ORIGIN).exists():
            vae.origin = json.loads((Path(folder) / ORIGIN).read_text())
        return vae
