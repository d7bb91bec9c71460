"""What ``qi2 vae evaluate`` does: the protocol of the report's Table 1 for any VAE, ours or a published one.

Parameters of both halves, PSNR and SSIM with intervals, on general images and on images of text. The report takes ImageNet and an in-house set of
text at 256 px; without sources, held-out photographs of scikit-image and our own pages of text serve, and the output says so. How the report cuts
its images is not stated; ours are scaled to the shorter side and cut to the middle square.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.rng import numpy_rng
from qi2.data.config import DataConfig
from qi2.data.filters.broken import BrokenImageError, decode
from qi2.data.pages.fonts import drawable
from qi2.data.pages.kinds import KINDS
from qi2.data.pages.page import draw_page
from qi2.data.photos import photo_crops
from qi2.data.sources import read_source
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.grids import Cell, grid
from qi2.evaluation.reconstruct import fidelity, reconstruct
from qi2.models.vae import VAE
from qi2.models.vae_diffusers import load_vae

BUNDLED = {"general": "held-out photographs of scikit-image (stand-in for ImageNet)", "text": "synthetic pages of qi2 (stand-in for the report's texts)"}
PHOTOS, PAGES = 48, 64  # where no source and no limit is given
BATCH, SHOWN = 8, 6


@dataclass(frozen=True)
class TableSet:
    """Square images of one size, under what they are called in the output."""

    name: str
    source: str
    images: list[Image.Image]


def evaluate_command(folder: Path, general: str, text: str, size: int, limit: int, seed: int, out: Path) -> str:
    """Measure the VAE in ``folder`` on both sets, write metrics.json and a sheet per set to ``out``, and return the table as text.

    Raises QI2Error where the size does not fit the VAE or a source has no readable image.
    """
    vae = load_vae(folder)
    if size <= 0 or size % vae.cfg.factor:
        raise QI2Error(f"--size {size} is no multiple of the VAE's factor {vae.cfg.factor}; choose for example {16 * vae.cfg.factor}")
    sets = [image_set(name, source, size, limit, seed) for name, source in (("general", general), ("text", text))]
    out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, dict[str, Figure]] = {}
    for found in sets:
        decoded = _decoded(vae, found)
        values = fidelity(found.images, decoded)
        figures[found.name] = {name: Bootstrap(seed).mean(each) for name, each in values.items()}
        sheet(found.images, decoded, values).save(out / f"{found.name}.png")
    (out / "metrics.json").write_text(json.dumps(_metrics(vae, folder, size, sets, figures), indent=1, ensure_ascii=False))
    lines = table(vae, folder, size, sets, figures)
    return "\n".join([*lines, *(f"written to {out / name}" for name in ("metrics.json", "general.png", "text.png"))])


def image_set(name: str, source: str, size: int, limit: int, seed: int) -> TableSet:
    """The images of a source (0: no limit), or of the bundled one where none is given."""
    if source:
        return TableSet(name, source, _of_source(source, size, limit))
    images = _photos(size, limit or PHOTOS, seed) if name == "general" else _pages(size, limit or PAGES, seed)
    return TableSet(name, BUNDLED[name], images)


def _of_source(source: str, size: int, limit: int) -> list[Image.Image]:
    images = []
    for row in islice(read_source(source, Path(DataConfig().cache)), limit or None):
        try:
            images.append(middle_square(decode(row.data).image, size))
        except BrokenImageError:
            continue  # a user's broken file, which `qi2 data inspect` shows
    if not images:
        raise QI2Error(f"{source} has no image that can be read; look at it with qi2 data inspect {source}")
    return images


def middle_square(image: Image.Image, size: int) -> Image.Image:
    """The largest square in the middle, scaled to ``size`` pixels."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))


def _photos(size: int, limit: int, seed: int) -> list[Image.Image]:
    images = [decode(row.data).image for row in photo_crops(limit, [size], seed, "heldout")]
    if not images:
        raise QI2Error(f"the bundled photographs are smaller than {size} px; give a smaller --size, or --general SOURCE")
    return images


def _pages(size: int, limit: int, seed: int) -> list[Image.Image]:
    kinds, languages = tuple(KINDS), drawable(())
    if not languages:
        raise QI2Error("no font of this machine can draw a page; install fonts-dejavu-core, or give --text SOURCE")
    draws = range(limit)
    return [
        draw_page(numpy_rng(seed, "vae/page", i), kinds[i % len(kinds)], languages[i // len(kinds) % len(languages)], (size, size), "heldout")[0] for i in draws
    ]


def _decoded(vae: VAE, found: TableSet) -> list[Image.Image]:
    decoded: list[Image.Image] = []
    with Progress(f"reconstruct {found.name}", len(found.images), "image") as progress:
        for start in range(0, len(found.images), BATCH):
            decoded += reconstruct(vae, found.images[start : start + BATCH], BATCH)
            progress.update(len(decoded) - start)
    return decoded


def sheet(images: Sequence[Image.Image], decoded: Sequence[Image.Image], values: dict[str, np.ndarray], side: int = 256) -> Image.Image:
    """Originals above reconstructions: pictures from all over the set, then those of the lowest PSNR."""
    evenly = np.linspace(0, len(images) - 1, min(SHOWN, len(images))).round().astype(int)
    rows: list[tuple[str, list[Cell | None]]] = []
    for label, chosen in (("", evenly), ("worst ", np.argsort(values["psnr"], kind="stable")[:SHOWN])):
        rows.append((f"{label}originals", [Cell(images[i]) for i in chosen]))
        marks = ", ".join(f"{values['psnr'][i]:.1f}" for i in chosen)
        rows.append((f"{label}reconstructions; PSNR in dB: {marks}", [Cell(decoded[i]) for i in chosen]))
    return grid([str(i + 1) for i in range(min(SHOWN, len(images)))], rows, side)


def parameters(vae: VAE) -> tuple[int, int]:
    """Of encoder and decoder, each with its 1x1 convolution and linear map; those that never run on an image count, as in Table 1."""
    halves = ((vae.encoder, vae.quant_conv, vae.linear_in), (vae.decoder, vae.post_quant_conv, vae.linear_out))
    first, second = (sum(p.numel() for part in half if isinstance(part, nn.Module) for p in part.parameters()) for half in halves)
    return first, second


def _metrics(vae: VAE, folder: Path, size: int, sets: Sequence[TableSet], figures: dict[str, dict[str, Figure]]) -> dict[str, object]:
    encoder, decoder = parameters(vae)
    measured = {found.name: {"source": found.source} | {name: each.to_json() for name, each in figures[found.name].items()} for found in sets}
    facts = {"vae": str(folder), "setting": setting(vae), "encoder_parameters": encoder, "decoder_parameters": decoder, "size": size}
    return facts | measured


def setting(vae: VAE) -> str:
    """Factor and channels as Table 1 writes them, such as f16c64."""
    return f"f{vae.cfg.factor}c{vae.cfg.latent_channels}"


def table(vae: VAE, folder: Path, size: int, sets: Sequence[TableSet], figures: dict[str, dict[str, Figure]]) -> list[str]:
    """The lines of Table 1 for one VAE, with 95 % intervals over images, and what the sets are."""
    encoder, decoder = (_millions(count) for count in parameters(vae))
    heads = [f"{found.name}_{size}x{size}" for found in sets]
    cells = [f"{f['psnr'].value:6.2f} [{f['psnr'].low:.2f}, {f['psnr'].high:.2f}]" for f in figures.values()]
    ssims = [f"{f['ssim'].value:.4f} [{f['ssim'].low:.4f}, {f['ssim'].high:.4f}]" for f in figures.values()]
    width = max(5, len(str(folder)))
    return [
        f"{'Model':<{width}}  Setting  Enc (M)  Dec (M)" + "".join(f"  {head + ' PSNR':<24}{head + ' SSIM':<24}" for head in heads),
        f"{folder!s:<{width}}  {setting(vae):<7}  {encoder:>7}  {decoder:>7}" + "".join(f"  {a:<24}{b:<24}" for a, b in zip(cells, ssims, strict=True)),
        *(f"{found.name}: {len(found.images)} images, {found.source}" for found in sets),
    ]


def _millions(count: int) -> str:
    return f"{count / 1e6:.{0 if count >= 1e7 else 2}f}"
