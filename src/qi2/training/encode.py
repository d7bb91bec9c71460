"""Stage `encode`: latents and condition features of all curated samples, computed once (or only named, where training computes them: `online`).

VAE and condition encoder are frozen from here on, so every later stage reads the same numbers instead of computing them again.
How pictures come to their sizes: `pictures`.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import Image
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.publish import publish
from qi2.core.reporter import Reporter
from qi2.data.aspect import STEP
from qi2.data.shards import Sidecar
from qi2.models.condition import PATCH, ConditionEncoder
from qi2.models.condition_cache import CachedEncoder
from qi2.models.sequence import EncodedPrompt
from qi2.models.storage import device_of
from qi2.models.vae import VAE
from qi2.training.config import EncodeConfig
from qi2.training.encoded import FEATURES, latent_writer, write, write_rows
from qi2.training.flat import LatentWriter
from qi2.training.online import write_online
from qi2.training.pictures import BATCH, Box, Pictures, chunks, features_of, latents_of, pass_size
from qi2.training.versions import versions

if TYPE_CHECKING:
    from qi2.recipe import Recipe

STAGES = range(1, 7)
OWN = ("user", "photo_edit", "accepted")  # sources that come whatever kinds are chosen


def encode(cfg: "Recipe", datasets: Path, vlm: Path, vae: Path, out: Path, reporter: Reporter) -> dict[str, float]:
    """Write the encoded set of everything that any of the six data sets holds."""
    return encode_sets(cfg.encode, {stage: Sidecar.load(datasets / f"s{stage}") for stage in STAGES}, vlm, vae, out, reporter)


def encode_sets(
    settings: EncodeConfig, sets: dict[int, Sidecar], vlm: Path, vae: Path, out: Path, reporter: Reporter, name: str = "encode"
) -> dict[str, float]:
    """Write the encoded set of what the data sets of some stages hold; ``name`` of its figures."""
    if unknown := set(settings.edit_sizes) - set(settings.sizes):
        raise QI2Error(f"encode.edit_sizes has {sorted(unknown)}, which encode.sizes {settings.sizes} lacks; add it there")
    if min(settings.sizes) < STEP:
        raise QI2Error(f"encode.sizes has {min(settings.sizes)}; buckets are multiples of {STEP} px, so choose sizes from {STEP} on")
    rows = samples({stage: side.table for stage, side in sets.items()}, settings.kinds)
    images = sorted({image for row in rows for image in (row["id"], *row["references"])})
    place, pictures = {image: i for i, image in enumerate(images)}, Pictures(images, sets, settings.sizes)
    model, encoder = VAE.load(vae).to(device_of(settings.device)), ConditionEncoder.load(vlm, settings.device)
    with publish(out) as staging:
        shapes = image_shapes(rows, pictures, place, settings)
        texts, shown, table = prompt_table(rows, pictures, place, settings)
        if settings.online:
            write_rows(staging, table, versions(model, encoder, settings))
            write_online(staging, out, settings, sets, {"vlm": vlm, "vae": vae}, images, shapes, texts, shown)
        else:
            for size, boxes in shapes.items():
                encode_images(model, pictures, size, boxes, staging)
                if settings.features:
                    own = {place[row["id"]] for row in rows if size in sizes_of(row, pictures, place[row["id"]], settings)}
                    encode_features(encoder, pictures, size, [box if i in own else (0, 0) for i, box in enumerate(boxes)], staging)
            keeping = CachedEncoder(encoder, Path(settings.cache)) if settings.cache else encoder
            write(staging, table, encode_texts(keeping, texts, shown, pictures), versions(model, encoder, settings))
        metrics = {f"{name}/samples": float(len(table)), f"{name}/prompts": float(len(texts)), f"{name}/images": float(len(images))}
        metrics[f"{name}/fills_no_size"] = float((table["side"] == 0).sum())
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


def sizes_of(row: dict[str, Any], pictures: Pictures, target: int, settings: EncodeConfig) -> list[int]:
    """The sizes at which a row is a sample: those that its target fills, for an edit only the edit sizes."""
    chosen = settings.edit_sizes if len(row["references"]) and settings.edit_sizes else settings.sizes
    return [size for size in sorted(chosen) if size <= pictures.side(target)]


def image_shapes(rows: list[dict[str, Any]], pictures: Pictures, place: dict[str, int], settings: EncodeConfig) -> dict[int, list[Box]]:
    """Per size, every image's bucket (width, height) in px, (0, 0) where no sample needs the image at that size."""
    needed: dict[int, set[int]] = {size: set() for size in pictures.sizes}
    for row in rows:
        for size in sizes_of(row, pictures, place[row["id"]], settings):
            needed[size].add(place[row["id"]])
            for reference in (place[name] for name in row["references"]):
                needed[pictures.level(reference, size)].add(reference)
    return {size: [pictures.box(i, size) if i in own else (0, 0) for i in range(len(pictures))] for size, own in needed.items()}


def encode_images(vae: VAE, pictures: Pictures, size: int, boxes: list[Box], folder: Path) -> None:
    """Write the latents of all images that have a box at ``size``."""
    cells = [(height // vae.cfg.factor, width // vae.cfg.factor) for width, height in boxes]
    writer = latent_writer(folder, size, vae.cfg.latent_channels, cells)
    _put_all(writer, f"encode images at {size} px", partial(latents_of, vae), pictures, size, boxes)


def encode_features(encoder: ConditionEncoder, pictures: Pictures, size: int, boxes: list[Box], folder: Path) -> None:
    """Write the vision features of all images that have a box at ``size``."""
    writer = latent_writer(folder, size, encoder.vision_width, [(height // PATCH, width // PATCH) for width, height in boxes], FEATURES)
    _put_all(writer, f"vision features at {size} px", partial(features_of, encoder), pictures, size, boxes)


def _put_all(writer: LatentWriter, what: str, read: Callable[[list[Image.Image]], Tensor], pictures: Pictures, size: int, boxes: list[Box]) -> None:
    """Those of one box together."""
    wanted = {box: [i for i, own in enumerate(boxes) if own == box] for box in sorted({*boxes} - {(0, 0)})}
    with Progress(what, sum(map(len, wanted.values())), "image") as progress:
        for box, chosen in wanted.items():
            for part in chunks(chosen, pass_size(box)):
                for i, values in zip(part, read([pictures(i, size) for i in part]), strict=True):
                    writer.put(i, values)
                progress.update(len(part))


def prompt_table(
    rows: list[dict[str, Any]], pictures: Pictures, place: dict[str, int], settings: EncodeConfig
) -> tuple[list[str], list[list[tuple[int, int]]], pd.DataFrame]:
    """All prompts (the empty one first), each one's references (image and size), and the rows with the indices of their prompts and images.

    A T2I caption is the same at every size; an instruction is encoded once per edit size, because the encoder sees its references.
    """
    texts: list[str] = [""]
    references: list[list[tuple[int, int]]] = [[]]  # image and size
    lines = []
    for row in rows:
        used, target = list(row["captions"])[: settings.captions], place[row["id"]]
        line = {"id": row["id"], "task": row["task"], "kind": row["kind"], "stages": row["stages"], "image": target, "side": pictures.side(target)}
        line["reference_images"] = [place[name] for name in row["references"]]
        line |= {f"prompts_{size}": [] for size in pictures.sizes}
        own = sizes_of(row, pictures, target, settings)
        for size in own:
            if line["reference_images"] or size == own[0]:
                first = len(texts)
                texts += used
                references += [[(i, pictures.level(i, size)) for i in line["reference_images"]]] * len(used)
            line[f"prompts_{size}"] = list(range(first, first + len(used)))
        lines.append(line)
    return texts, references, pd.DataFrame(lines)


def encode_texts(
    encoder: ConditionEncoder | CachedEncoder, texts: list[str], references: list[list[tuple[int, int]]], picture: Callable[[int, int], Image.Image]
) -> list[EncodedPrompt]:
    """Prompts with their references (image and size), those of like length together."""
    order = sorted(range(len(texts)), key=lambda i: (len(references[i]), len(texts[i]), i))
    encoded: dict[int, EncodedPrompt] = {}
    with Progress("encode prompts", len(texts), "prompt") as progress:
        for chosen in chunks(order, 8 * BATCH):
            shown = [[picture(*reference) for reference in references[i]] for i in chosen]
            encoded |= dict(zip(chosen, encoder.encode([texts[i] for i in chosen], shown, BATCH), strict=True))
            progress.update(len(chosen))
    return [encoded[i] for i in range(len(texts))]
