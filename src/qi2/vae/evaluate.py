"""What the VAE keeps of held-out images: PSNR and SSIM per image, the checker's ceiling, and a sheet to look at."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.heldout import judges
from qi2.data.shards import read_image
from qi2.data.world.checker import check
from qi2.data.world.scene import Scene
from qi2.models.pixels import to_images, to_tensor
from qi2.models.vae import VAE, over_white
from qi2.vae.config import ImageBatch
from qi2.vae.data import pool_of, square

NAMES = {"scene": "world", "rich": "rich", "photo": "photo"}
BATCH = 64


@dataclass
class HeldoutSet:
    """Held-out images of one pool and one side; ``scenes`` are what they show, where it can be checked."""

    name: str
    images: list[Image.Image]
    scenes: list[Scene] = field(default_factory=list)


def heldout_sets(raw: Path, curated: Path | None, batches: Sequence[ImageBatch], limit: int, seed: int) -> list[HeldoutSet]:
    """One set per pool and side of ``batches``; the pool's first side has the plain name, others end in ``_SIDE``; what cannot be decoded is left out."""
    table = judges(raw, curated).table
    table = table[(table["split"] == "heldout") & (table["task"] == "t2i")]
    table = table.assign(pool=[pool_of(source, kind) for source, kind in zip(table["source"], table["kind"], strict=True)])
    sets: dict[str, HeldoutSet] = {}
    for batch in batches:
        first = next(b.side for b in batches if b.pool == batch.pool)
        name = NAMES[batch.pool] + ("" if batch.side == first else f"_{batch.side}")
        rows: list[dict[str, Any]] = table[table["pool"] == batch.pool].sort_values("id").to_dict("records")  # type: ignore[assignment]
        rows = [rows[i] for i in sorted(numpy_rng(seed, "vae/heldout").permutation(len(rows))[:limit])]
        if name in sets:
            continue
        found = HeldoutSet(name, [])
        for i, row in enumerate(rows):
            with contextlib.suppress(QI2Error):  # a user's broken file, which curation reports
                crop = numpy_rng(seed, "vae/heldout", batch.side, i) if batch.pool == "photo" else None
                found.images.append(square(read_image(raw, row), batch.side, crop))
                found.scenes += [Scene.from_json(row["scene"])] if batch.pool == "scene" else []
        if found.images:
            sets[name] = found
    return list(sets.values())


@torch.no_grad()
def reconstruct(vae: VAE, images: Sequence[Image.Image]) -> list[Image.Image]:
    """Images of one size through encoder and decoder, back to 8 bits."""
    starts = range(0, len(images), BATCH)
    return [picture for i in starts for picture in to_images(over_white(vae.decode(vae.encode(to_tensor(images[i : i + BATCH])))))]


def evaluate_vae(vae: VAE, images: Sequence[Image.Image]) -> dict[str, np.ndarray]:
    """``psnr`` (dB) and ``ssim`` (Gaussian window of 11 pixels) of each image (RGB, one size) and its reconstruction, shape (N,)."""
    return fidelity(images, reconstruct(vae, images))


def fidelity(images: Sequence[Image.Image], decoded: Sequence[Image.Image]) -> dict[str, np.ndarray]:
    """PSNR and SSIM of pairs of 8-bit images."""
    from skimage.metrics import structural_similarity

    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(images, decoded, strict=True)]
    settings = {"channel_axis": 2, "data_range": 255.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    error = np.array([np.mean((a - b) ** 2) for a, b in pairs])
    psnr = 10 * np.log10(255.0**2 / np.maximum(error, 1e-5))
    return {"psnr": psnr, "ssim": np.array([structural_similarity(a, b, **settings) for a, b in pairs])}


def heldout_metrics(vae: VAE, sets: Sequence[HeldoutSet], suffix: str = "") -> dict[str, float]:
    """Means per set: ``vae/psnr_NAME``, ``vae/ssim_NAME`` and, for scenes, ``vae/ceiling_NAME``: the share that checks as right."""
    metrics: dict[str, float] = {}
    for group in sets:
        decoded = reconstruct(vae, group.images)
        values = fidelity(group.images, decoded)
        if group.scenes:
            values["ceiling"] = np.array([check(image, scene)["all"] for image, scene in zip(decoded, group.scenes, strict=True)])
        metrics |= {f"vae/{name}_{group.name}{suffix}": float(np.mean(each)) for name, each in values.items()}
    return metrics


def reconstruction_sheet(vae: VAE, sets: Sequence[HeldoutSet], columns: int = 12, scale: int = 2) -> Image.Image:
    """Held-out originals above their reconstructions, one pair of rows per set, enlarged ``scale`` times."""
    strips = []
    for group in sets:
        chosen = group.images[:: max(1, len(group.images) // columns)][:columns]
        for row in (chosen, reconstruct(vae, chosen)):
            side = row[0].width * scale
            strip = Image.new("RGB", (columns * (side + 4), side + 4), "white")
            for column, image in enumerate(row):
                strip.paste(image.resize((side, side), Image.Resampling.NEAREST), (column * (side + 4), 0))
            strips.append(strip)
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet
