"""Stage `encode`: latents and condition features of all curated samples, computed once.

VAE and condition encoder are frozen from here on, so every later stage reads the same numbers instead of computing them again.
Images are cut to a centred square and resized to each size; references are seen by the VLM and the VAE at the same size.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.publish import publish
from qi2.core.reporter import Reporter
from qi2.data.shards import Sidecar
from qi2.models.condition import ConditionEncoder
from qi2.models.condition_cache import CachedEncoder
from qi2.models.pixels import to_tensor
from qi2.models.sequence import EncodedPrompt
from qi2.models.storage import device_of
from qi2.models.vae import VAE
from qi2.training.config import EncodeConfig
from qi2.training.encoded import write

if TYPE_CHECKING:
    from qi2.recipe import Recipe

STAGES = range(1, 7)
BATCH = 128
OWN = ("user", "photo_edit")  # sources that come whatever kinds are chosen


def encode(cfg: "Recipe", datasets: Path, vlm: Path, vae: Path, out: Path, reporter: Reporter) -> dict[str, float]:
    """Write the encoded set of everything that any of the six data sets holds."""
    settings = cfg.encode
    sets = {stage: Sidecar.load(datasets / f"s{stage}") for stage in STAGES}
    if unknown := set(settings.edit_sizes) - set(settings.sizes):
        raise QI2Error(f"encode.edit_sizes has {sorted(unknown)}, which encode.sizes {settings.sizes} lacks; add it there")
    rows = samples({stage: side.table for stage, side in sets.items()}, settings.kinds)
    images = sorted({name for row in rows for name in (row["id"], *row["references"])})
    place = {name: i for i, name in enumerate(images)}
    held = {name: side for side in sets.values() for name in side.table["id"]}
    pictures = {size: [square(held[name].image(name), size) for name in images] for size in sorted(settings.sizes)}
    coder = VAE.load(vae).to(device_of(settings.device))
    latents = {size: encode_images(coder, pictures[size], f"encode images at {size} px") for size in sorted(settings.sizes)}
    encoder = ConditionEncoder.load(vlm, settings.device)
    prompts, table = encode_prompts(CachedEncoder(encoder, Path(settings.cache)) if settings.cache else encoder, rows, pictures, place, settings)
    with publish(out) as staging:
        write(staging, table, prompts, latents)
        metrics = {"encode/samples": float(len(table)), "encode/prompts": float(len(prompts)), "encode/images": float(len(images))}
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    reporter.metrics(metrics, 0)
    return metrics


def samples(tables: dict[int, pd.DataFrame], kinds: list[str]) -> list[dict[str, Any]]:
    """Samples of the stages' tables, each with the list of stages that have it; references alone are no samples.

    ``kinds`` choose among the rows that we make ourselves; a user's rows, and the edits made of photographs, all come.
    """
    found: dict[str, dict[str, Any]] = {}
    for stage, table in tables.items():
        columns = table[["id", "source", "task", "kind", "captions", "references"]]
        rows: list[dict[str, Any]] = columns[table["task"] != "reference"].to_dict("records")  # type: ignore[assignment]
        for row in rows:
            if not kinds or row["kind"] in kinds or row["source"] in OWN:
                found.setdefault(row["id"], {**row, "stages": []})["stages"].append(stage)
    if not found:
        raise QI2Error(f"the data sets have no sample of the kinds {kinds or 'any'}; loosen the thresholds in curate, or encode.kinds")
    return [found[name] for name in sorted(found)]


def square(image: Image.Image, size: int) -> Image.Image:
    """The centred square of an image at ``size`` pixels."""
    return image if image.size == (size, size) else ImageOps.fit(image, (size, size), Image.Resampling.BOX)


@torch.no_grad()
def encode_images(vae: VAE, images: list[Image.Image], label: str) -> Tensor:
    """Latents (N, 64, h, w) of images of one size."""
    parts = []
    with Progress(label, len(images), "image") as progress:
        for start in range(0, len(images), BATCH):
            parts.append(vae.encode(to_tensor(images[start : start + BATCH]).to(vae.latent_mean.device)).cpu())
            progress.update(len(parts[-1]))
    return torch.cat(parts)


def encode_prompts(
    encoder: ConditionEncoder | CachedEncoder, rows: list[dict[str, Any]], pictures: dict[int, list[Image.Image]], place: dict[str, int], settings: EncodeConfig
) -> tuple[list[EncodedPrompt], pd.DataFrame]:
    """All prompts (the empty one first), and the rows with the indices of their prompts and images.

    A T2I caption is the same at every size; an instruction is encoded once per edit size, because the encoder sees its references.
    """
    texts, lines = [""], []
    references: list[list[Image.Image]] = [[]]
    for row in rows:
        used = list(row["captions"])[: settings.captions]
        line = {"id": row["id"], "task": row["task"], "kind": row["kind"], "stages": row["stages"], "image": place[row["id"]]}
        line["reference_images"] = [place[name] for name in row["references"]]
        for size in pictures:
            line[f"prompts_{size}"] = []
            if line["reference_images"] and settings.edit_sizes and size not in settings.edit_sizes:
                continue
            if line["reference_images"] or size == min(pictures):
                first = len(texts)
                texts += used
                references += [[pictures[size][i] for i in line["reference_images"]]] * len(used)
            line[f"prompts_{size}"] = list(range(first, first + len(used)))
        lines.append(line)
    prompts: list[EncodedPrompt] = []
    order = sorted(range(len(texts)), key=lambda i: (len(references[i]), len(texts[i]), i))
    encoded: dict[int, EncodedPrompt] = {}
    with Progress("encode prompts", len(texts), "prompt") as progress:
        for start in range(0, len(order), 8 * BATCH):
            chosen = order[start : start + 8 * BATCH]
            parts = encoder.encode([texts[i] for i in chosen], [references[i] for i in chosen], BATCH)
            encoded |= dict(zip(chosen, parts, strict=True))
            progress.update(len(chosen))
    prompts = [encoded[i] for i in range(len(texts))]
    return prompts, pd.DataFrame(lines)
