"""What the VAE keeps of an image: PSNR and SSIM on the world and on photographs, and the checker's ceiling (report, Table 1)."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.rng import key, numpy_rng
from qi2.data.heldout import judges
from qi2.data.shards import SIDECAR, Sidecar
from qi2.data.world.render import render
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.config import EvaluateConfig
from qi2.evaluation.fidelity import psnr, ssim
from qi2.evaluation.grids import Cell
from qi2.evaluation.samples import Samples
from qi2.evaluation.score import column, judge_t2i
from qi2.evaluation.suites.world import T2IItem, vae_suite
from qi2.models.pixels import to_images, to_tensor
from qi2.models.vae import VAE, over_white

REAL = ("photo", "user")  # sources of the raw data that are not drawn


@torch.no_grad()
def reconstruct(vae: VAE, images: Sequence[Image.Image], batch: int) -> list[Image.Image]:
    """Images of one size through encoder and decoder, back to 8 bits; what an RGBA decoder leaves transparent is white."""
    parts = (to_tensor(images[i : i + batch]).to(vae.latent_mean.device) for i in range(0, len(images), batch))
    return [picture for part in parts for picture in to_images(over_white(vae.decode(vae.encode(part))))]


@dataclass(frozen=True)
class ImageSet:
    """Images of one size under a name (``world`` or ``photo``); ``items`` are their scenes, where they are known."""

    name: str
    images: list[Image.Image]
    items: list[T2IItem]


def world_set(config: EvaluateConfig) -> list[ImageSet]:
    """Held-out scenes as the world draws them."""
    items = vae_suite(config)
    return [ImageSet("world", [render(item.scene, config.size) for item in items], items)] if items else []


def photo_set(raw: Path | None, curated: Path | None, config: EvaluateConfig) -> list[ImageSet]:
    """Crops of held-out photographs; none where the raw data has none."""
    photos = heldout_photos(raw, curated, config) if raw else []
    return [ImageSet("photo", photos, [])] if photos else []


def judge_vae(vae: VAE, start: VAE | None, sets: Sequence[ImageSet], batch: int, boot: Bootstrap, samples: Samples) -> dict[str, Figure]:
    """vae/psnr_SET and vae/ssim_SET, and vae/ceiling of the world; the same with ``_pca``, and paired gains, where there is a ``start``."""
    figures: dict[str, Figure] = {}
    for group in sets:
        decoded = reconstruct(vae, group.images, batch)
        before = reconstruct(start, group.images, batch) if start else None
        figures |= _fidelity_figures(boot, group, decoded, before)
        if group.items:
            figures["vae/ceiling"] = boot.mean(column(judge_t2i(decoded, group.items), "all"))
        if group.items and before:
            figures["vae/ceiling_pca"] = boot.mean(column(judge_t2i(before, group.items), "all"))
        _show(samples, group, decoded, before)
    return figures


def _fidelity_figures(boot: Bootstrap, group: ImageSet, decoded: Sequence[Image.Image], before: Sequence[Image.Image] | None) -> dict[str, Figure]:
    values = fidelity(group.images, decoded)
    figures = {f"vae/{measure}_{group.name}": boot.mean(each) for measure, each in values.items()}
    for measure, each in (fidelity(group.images, before) if before else {}).items():
        figures[f"vae/{measure}_{group.name}_pca"] = boot.mean(each)
        figures[f"vae/{measure}_{group.name}_gain"] = boot.difference(values[measure], each)
    return figures


def fidelity(images: Sequence[Image.Image], decoded: Sequence[Image.Image]) -> dict[str, np.ndarray]:
    """``psnr`` (dB) and ``ssim`` per pair of images of one size."""
    one, other = (to_tensor(group) / 2 + 0.5 for group in (images, decoded))
    return {"psnr": psnr(one, other).double().numpy(), "ssim": ssim(one, other).double().numpy()}


def heldout_photos(raw: Path, curated: Path | None, config: EvaluateConfig) -> list[Image.Image]:
    """Up to ``vae_photos`` crops of held-out real images: square crops of ``photo_size`` pixels at a fixed place and scale each.

    Several crops come from one photograph where there are few. Empty where the raw data has no readable held-out real image.
    """
    if not (raw / SIDECAR).exists():
        return []
    images = list(heldout_images(judges(raw, curated), REAL, config.vae_photos, config.seed).values())
    turns = range(config.vae_photos if images else 0)
    return [_crop(images[turn % len(images)], config, key(config.seed, "evaluate/photo", turn)) for turn in turns]


def heldout_images(sidecar: Sidecar, sources: Sequence[str], limit: int, seed: int) -> dict[str, Image.Image]:
    """{id: image} of at most ``limit`` held-out T2I rows of these sources, in an order of the seed's; unreadable files are left out."""
    table = sidecar.table
    names = table["id"][(table["split"] == "heldout") & table["source"].isin(sources) & (table["task"] == "t2i")].tolist()
    found: dict[str, Image.Image] = {}
    for index in numpy_rng(seed, "evaluate/images").permutation(len(names)):
        with contextlib.suppress(QI2Error):  # curation reports broken files
            found[names[index]] = sidecar.image(names[index])
        if len(found) == limit:
            break
    return found


def _crop(image: Image.Image, config: EvaluateConfig, number: int) -> Image.Image:
    """A square of at least ``photo_size`` pixels and at most the whole shorter side, scaled to ``photo_size``."""
    rng = np.random.default_rng(number)
    size, shorter = config.photo_size, min(image.size)
    side = int(rng.integers(min(size, shorter), shorter + 1))
    left, top = int(rng.integers(image.width - side + 1)), int(rng.integers(image.height - side + 1))
    return image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))


def _show(samples: Samples, group: ImageSet, decoded: Sequence[Image.Image], before: Sequence[Image.Image] | None) -> None:
    shown = range(min(samples.shown, len(group.images)))
    kept = {"original": group.images, "pca": before, "decoded": decoded}
    for ending, images in kept.items():
        for k in shown if images else ():
            samples.save(images[k], f"vae/{group.name}-{k}-{ending}")  # type: ignore[index]
    labels = {"original": "original", "pca": "linear start", "decoded": "through the VAE"}
    rows = [(labels[ending], [Cell(images[k]) for k in shown]) for ending, images in kept.items() if images]
    samples.write_grid(f"vae_{group.name}", [str(k + 1) for k in shown], rows)
