"""What the VAE keeps of an image: PSNR and SSIM on the world and on photographs, and the checker's ceiling (report, Table 1)."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.rng import key
from qi2.data.shards import SIDECAR, Sidecar
from qi2.data.world.render import render
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.config import EvaluateConfig
from qi2.evaluation.fidelity import psnr, ssim
from qi2.evaluation.generate import to_images, to_tensor
from qi2.evaluation.grids import Cell
from qi2.evaluation.samples import Samples
from qi2.evaluation.score import column, judge_t2i
from qi2.evaluation.suites import T2IItem
from qi2.models.vae import VAE

REAL = ("photo", "user")  # sources of the raw data that are not drawn


@torch.no_grad()
def reconstruct(vae: VAE, images: Sequence[Image.Image], batch: int) -> list[Image.Image]:
    """Images of one size through encoder and decoder, back to 8 bits."""
    starts = range(0, len(images), batch)
    return [picture for i in starts for picture in to_images(vae.decode(vae.encode(to_tensor(images[i : i + batch]))))]


def judge_vae(
    vae: VAE, items: Sequence[T2IItem], photos: Sequence[Image.Image], config: EvaluateConfig, boot: Bootstrap, samples: Samples
) -> dict[str, Figure]:
    """vae/psnr_SET and vae/ssim_SET of ``world`` and ``photo``, whichever are given, and vae/ceiling of the world."""
    figures: dict[str, Figure] = {}
    world = [render(item.scene, config.size) for item in items]
    for name, images in (("world", world), ("photo", list(photos))):
        if images:
            decoded = reconstruct(vae, images, config.batch)
            for measure, values in fidelity(images, decoded).items():
                figures[f"vae/{measure}_{name}"] = boot.mean(values)
            _show(samples, name, images, decoded)
            if name == "world":
                figures["vae/ceiling"] = boot.mean(column(judge_t2i(decoded, items), "all"))
    return figures


def fidelity(images: Sequence[Image.Image], decoded: Sequence[Image.Image]) -> dict[str, np.ndarray]:
    """``psnr`` (dB) and ``ssim`` per pair of images of one size."""
    one, other = (to_tensor(group) / 2 + 0.5 for group in (images, decoded))
    return {"psnr": psnr(one, other).double().numpy(), "ssim": ssim(one, other).double().numpy()}


def heldout_photos(raw: Path, config: EvaluateConfig) -> list[Image.Image]:
    """Up to ``vae_photos`` crops of held-out real images: square crops of ``photo_size`` pixels at a fixed place and scale each.

    Several crops come from one photograph where there are few. Empty where the raw data has no readable held-out real image.
    """
    if not (raw / SIDECAR).exists():
        return []
    images = list(heldout_images(Sidecar.load(raw), REAL, config.vae_photos).values())
    turns = range(config.vae_photos if images else 0)
    return [_crop(images[turn % len(images)], config, key(config.seed, "evaluate/photo", turn)) for turn in turns]


def heldout_images(sidecar: Sidecar, sources: Sequence[str], limit: int) -> dict[str, Image.Image]:
    """{id: image} of at most ``limit`` held-out T2I rows of these sources, in the sidecar's order; unreadable files are left out."""
    table = sidecar.table
    rows = table[(table["split"] == "heldout") & table["source"].isin(sources) & (table["task"] == "t2i")]
    found: dict[str, Image.Image] = {}
    for name in rows["id"]:
        with contextlib.suppress(QI2Error):  # curation reports broken files
            found[name] = sidecar.image(name)
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


def _show(samples: Samples, name: str, images: Sequence[Image.Image], decoded: Sequence[Image.Image]) -> None:
    shown = range(min(samples.shown, len(images)))
    for k in shown:
        samples.save(images[k], f"vae/{name}-{k}-original")
        samples.save(decoded[k], f"vae/{name}-{k}-decoded")
    labels = [str(k + 1) for k in shown]
    rows = [("original", [Cell(images[k]) for k in shown]), ("through the VAE", [Cell(decoded[k]) for k in shown])]
    samples.write_grid(f"vae_{name}", labels, rows)
