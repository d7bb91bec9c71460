"""Stage `vae`: train the autoencoder, measure its latents, and publish it beside its PCA start."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.core.publish import publish
from qi2.core.reporter import FileReporter, Reporter, Reporters
from qi2.models.condition import ConditionEncoder
from qi2.models.vae import VAE
from qi2.models.vae_diffusers import load_vae
from qi2.training.fit import fit
from qi2.vae.config import PerceptualConfig, VAEConfig
from qi2.vae.data import TrainingImages, admitted
from qi2.vae.evaluate import heldout_metrics, heldout_sets, reconstruction_sheet
from qi2.vae.module import Features, VAEModule
from qi2.vae.pca import patch_statistics, start_from_pca

if TYPE_CHECKING:
    from qi2.recipe import Recipe


def train_vae(cfg: "Recipe", raw: Path, curated: Path, standins: Path, out: Path, reporter: Reporter, checkpoints: Path | None = None) -> dict[str, float]:
    """Write the VAE, its start (``start/``, for the comparison), curves and metrics to ``out``."""
    settings = cfg.vae
    if settings.path:
        return use_vae(cfg, raw, curated, out, reporter)
    images = TrainingImages(raw, admitted(curated), settings.batches, cfg.seed, settings.recolor)
    sample = images.sample(settings.statistics_images)
    vae = start(settings, sample, cfg.seed)
    teacher = vision_teacher(standins / "vlm") if settings.alignment.start or settings.perceptual.kind == "teacher" else None
    module = VAEModule(vae, images, settings, cfg.seed, teacher, perceptual_features(settings.perceptual, teacher))
    with publish(out) as staging:
        vae.save(staging / "start")
        reporters = Reporters(reporter, FileReporter(staging))
        fit(module, "vae", reporters, engine=cfg.engine, checkpoints=checkpoints, ema=settings.ema)
        measure_latents(vae.eval(), sample)
        vae.save(staging)
        metrics = sizes(vae) | held_out(vae, VAE.load(staging / "start"), raw, curated, settings, cfg.seed, staging, reporters)
        reporters.metrics(metrics, module.total_steps)
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def use_vae(cfg: "Recipe", raw: Path, curated: Path, out: Path, reporter: Reporter) -> dict[str, float]:
    """Publish the VAE of ``vae.path`` with its figures, untouched: its latents keep their own mean and deviation."""
    vae = load_vae(Path(cfg.vae.path))
    with publish(out) as staging:
        reporters = Reporters(reporter, FileReporter(staging))
        vae.save(staging)
        metrics = sizes(vae) | held_out(vae, vae, raw, curated, cfg.vae, cfg.seed, staging, reporters)
        reporters.metrics(metrics, 0)
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def start(settings: VAEConfig, sample: Sequence[Tensor], seed: int) -> VAE:
    """A new VAE from the seed; with a linear skip, filled by PCA."""
    torch.manual_seed(rng.key(seed, "vae/init"))
    vae = VAE(settings.model)
    if settings.model.linear_skip:
        start_from_pca(vae, patch_statistics(sample, settings.model.factor), settings.whitening, settings.start_noise, seed)
    measure_latents(vae, sample)
    return vae


@torch.no_grad()
def measure_latents(vae: VAE, sample: Sequence[Tensor]) -> None:
    """Set the mean and standard deviation of each latent channel from training images."""
    means = [vae.posterior(part)[0].transpose(0, 1).flatten(1) for images in sample for part in images.split(64)]
    values = torch.cat(means, dim=1)
    vae.latent_mean.copy_(values.mean(1))
    vae.latent_std.copy_(values.std(1))


def vision_teacher(folder: Path) -> Features:
    """Patch features of the condition encoder's vision tower, differentiable in the images."""
    encoder = ConditionEncoder.load(folder)
    return lambda images: [encoder.vision_features(images)]


def perceptual_features(config: PerceptualConfig, teacher: Features | None) -> Features | None:
    """The network to compare images by: none, the teacher, or a vision model of transformers."""
    if config.kind == "none":
        return None
    if config.kind == "teacher":
        return teacher
    if config.kind != "vision" or not config.path:
        raise QI2Error(f"vae.perceptual.kind is {config.kind!r} with path {config.path!r}; choose none, teacher, or vision with a model's path")
    from transformers import AutoModel

    model = AutoModel.from_pretrained(config.path).eval().requires_grad_(False)

    def features(images: Tensor) -> list[Tensor]:
        states = model.to(images.device)(pixel_values=images, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
        side = int((states[0].shape[1] - 1) ** 0.5)
        return [states[i][:, 1:].transpose(1, 2).unflatten(2, (side, side)) for i in config.layers]

    return features


def sizes(vae: VAE) -> dict[str, float]:
    """Parameters of both halves (report, Table 1)."""
    halves = {"encoder": vae.encoder, "decoder": vae.decoder}
    return {f"vae/{name}_parameters": float(sum(p.numel() for p in half.parameters())) for name, half in halves.items()}


def held_out(vae: VAE, first: VAE, raw: Path, curated: Path, settings: VAEConfig, seed: int, out: Path, reporter: Reporter) -> dict[str, float]:
    """Figures on held-out images, the same of the start (``..._pca``), and ``reconstructions.png``."""
    sets = heldout_sets(raw, curated, settings.batches, settings.heldout_images, seed)
    if not sets:
        return {}
    sheet = reconstruction_sheet(vae, [group for group in sets if not group.name[-1].isdigit()])
    sheet.save(out / "reconstructions.png")
    reporter.image("vae/reconstructions", sheet, settings.steps)
    before = heldout_metrics(first, sets, "_pca") if settings.model.linear_skip else {}
    return heldout_metrics(vae, sets) | before
