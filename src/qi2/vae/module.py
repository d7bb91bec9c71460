"""The VAE's training step: reconstruction, perceptual and alignment losses, then the decoder alone (report section 3.1)."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qi2.config import as_dict
from qi2.core.rng import generator
from qi2.models.vae import VAE, opaque, over_white
from qi2.objectives.vae import (
    adaptive_weight,
    distance_matrix_loss,
    kl_loss,
    marginal_cosine_loss,
    perceptual_loss,
    reconstruction_loss,
)
from qi2.training.config import OptimizerConfig
from qi2.training.optim import build_optimizer
from qi2.training.step_module import StepModule
from qi2.vae.config import AlignmentConfig, VAEConfig

Features = Callable[[Tensor], Sequence[Tensor]]
"""Images (B,3,H,W) in [-1,1] to feature maps (B,C,h,w), differentiable in the images."""

NETWORK_ENDS = ("conv_in", "conv_out", "quant_conv", "linear_in", "linear_out", "projection")


class Images(Protocol):
    """Training images: a batch is a pure function of the step."""

    def batch(self, step: int) -> Tensor: ...

    def largest(self) -> Tensor: ...


def alignment_schedule(progress: float, cfg: AlignmentConfig) -> tuple[float, float, float]:
    """Weight, distance margin and cosine margin at ``progress`` 0..1 through the encoder's training."""
    weight = cfg.end + (cfg.start - cfg.end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    relaxed = 0.0 if cfg.relax_share <= 0 else min(1.0, max(0.0, 1 - (1 - progress) / cfg.relax_share))
    return weight, relaxed * cfg.distance_margin, relaxed * cfg.cosine_margin


class VAEModule(StepModule):
    """Trains a VAE; ``teacher`` are the features to align with (first map), ``perceptual`` those to compare images by."""

    ratio: Tensor

    def __init__(self, vae: VAE, images: Images, cfg: VAEConfig, seed: int, teacher: Features | None, perceptual: Features | None) -> None:
        super().__init__(cfg.steps)
        self.vae, self.images, self.cfg, self.seed = vae, images, cfg, seed
        self.prefetch = True
        self.teacher, self.perceptual = teacher, perceptual
        self.encoder_steps = round(cfg.steps * (1 - cfg.refine_share))
        width = 0 if teacher is None else teacher(torch.zeros(1, 3, 64, 64))[0].shape[1]
        self.projection = nn.Conv2d(vae.cfg.latent_channels, width, 1, bias=False) if width else None
        self.register_buffer("ratio", torch.zeros(()))

    def facts(self) -> dict[str, Any]:
        return {"seed": self.seed, "vae": as_dict(self.cfg)}

    def batch(self, step: int) -> Tensor:
        return self.images.batch(step)

    def training_step(self, images: Tensor, _: int) -> Tensor:
        if self.vae.cfg.image_channels == 4:
            images = opaque(images)
        refining = self.steps_done >= self.encoder_steps
        with torch.set_grad_enabled(not refining):
            mean, logvar = self.vae.posterior(images)
        noise = torch.randn(mean.shape, generator=generator(self.seed, "vae/noise", self.steps_done)).to(mean)
        latents = mean + (0.5 * logvar).exp() * noise
        loss = self._image_loss(self.vae.reconstruct(latents), images)
        if not refining:
            loss = loss + self._latent_loss(loss, images, mean, logvar, latents)
        return loss

    def _image_loss(self, output: Tensor, images: Tensor) -> Tensor:
        cfg = self.cfg
        loss = cfg.l1_weight * reconstruction_loss(output, images, cfg.gradient_weight, cfg.square_weight)
        self.observe({"vae/reconstruction": loss})
        if self.perceptual is None:
            return loss
        with torch.no_grad():
            wanted = self.perceptual(over_white(images))
        perceptual = perceptual_loss(self.perceptual(over_white(output)), wanted)
        self.observe({"vae/perceptual": perceptual})
        return loss + cfg.perceptual.weight * perceptual

    def _latent_loss(self, image_loss: Tensor, images: Tensor, mean: Tensor, logvar: Tensor, latents: Tensor) -> Tensor:
        kl = kl_loss(mean, logvar)
        self.observe({"vae/kl": kl})
        loss = self.cfg.kl_weight * kl
        if self.teacher is None or self.projection is None:
            return loss
        with torch.no_grad():
            features = self.teacher(over_white(images))[0]
        weight, distance_margin, cosine_margin = alignment_schedule(self.steps_done / max(self.encoder_steps, 1), self.cfg.alignment)
        projected = self.projection(F.interpolate(latents, features.shape[-2:], mode="bilinear") if latents.shape[-2:] != features.shape[-2:] else latents)
        distance = distance_matrix_loss(projected, features, distance_margin)
        cosine = marginal_cosine_loss(projected, features, cosine_margin)
        if self.steps_done % self.cfg.alignment.adapt_every == 0:
            self.ratio.copy_(adaptive_weight(image_loss, distance + cosine, self.vae.encoder.conv_out.weight))  # type: ignore[arg-type]
        self.observe({"vae/distance": distance, "vae/cosine": cosine, "vae/alignment_weight": weight * self.ratio})
        return loss + weight * self.ratio * (distance + cosine)

    def configure_optimizers(self) -> Any:
        cfg = self.cfg
        settings = OptimizerConfig(cfg.optimizer, cfg.lr, cfg.adam_lr, cfg.weight_decay, warmup=cfg.warmup, decay_share=cfg.decay_share, clip=cfg.clip)
        ends = [p for layer in (self.vae.linear_in, self.vae.linear_out) if layer is not None for p in layer.parameters()]
        for p in ends:
            p.requires_grad_(False)  # not the network's: their own rate, or none
        optimizer = build_optimizer(self, settings, lambda name: not any(end in name for end in NETWORK_ENDS))
        if ends and cfg.linear_lr:
            optimizer.add_param_group({"params": [p.requires_grad_() for p in ends], "lr": cfg.linear_lr, "weight_decay": 0.0})
        return self.with_schedule(optimizer, settings)

    def work(self, batch: Tensor) -> float:
        """Its pixels."""
        return float(batch.numel())

    @property
    def network(self) -> nn.Module:
        return self.vae

    def largest_batch(self) -> Tensor:
        return self.images.largest()
