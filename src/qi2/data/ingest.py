"""Stage `ingest`: raw rows as shards with a sidecar, either drawn (world, defects, photographs) or read from the user's source.

Nothing is judged here: broken files come through as they are and curation reports them.
"""

import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.publish import publish
from qi2.core.reporter import Reporter
from qi2.data.config import DataConfig
from qi2.data.edits.mask import given_region
from qi2.data.edits.rows import Photograph, kind_weights, picked_rows, picks
from qi2.data.pages.config import PagesConfig
from qi2.data.pages.fonts import drawable
from qi2.data.pages.rows import page_row
from qi2.data.photos import photo_crops
from qi2.data.shards import Row, ShardWriter, read_image
from qi2.data.sources import UserRow, read_source
from qi2.data.world.edits import EDIT_KINDS
from qi2.data.world.examples import Item, make_rows, plan
from qi2.data.world.scene import KINDS
from qi2.data.world.sheet import sheet

T = TypeVar("T", bound=Sized)
CHUNK = 256  # items per task of a worker process
PHOTOGRAPHS = ("photo", "user")  # sources
FEW = 2000  # items below which starting processes costs more than it saves
PAIRS, FEW_PAIRS = 4, 100  # the same of edits of photographs, which take some 20 times as long and at 2048 px are large


class IngestConfig(Protocol):
    """The part of the recipe that ingest reads."""

    @property
    def seed(self) -> int: ...

    @property
    def data(self) -> DataConfig: ...


def ingest(cfg: IngestConfig, out: Path, reporter: Reporter) -> None:
    """Publish shards, ``sidecar.parquet`` and ``metrics.json`` (rows and bytes by source and split) to ``out``."""
    data = cfg.data
    if data.pages.count or data.pages.heldout:
        drawable(tuple(data.pages.fonts))  # fails now rather than after everything else was drawn, where there is no font at all
    with publish(out) as folder:
        with ShardWriter(folder, data.shard_rows) as writer:
            rows = _user_rows(data) if data.source else chain(_world_rows(data, cfg.seed), _photo_rows(data, cfg.seed))
            counts = _write(chain(rows, _page_rows(data, cfg.seed), _photo_edit_rows(data, cfg.seed, writer)), writer)
        if not len(writer):
            raise QI2Error("ingest found nothing to write; set data.source, or data.world_images above 0")
        (folder / "metrics.json").write_text(json.dumps(counts, indent=1))
    reporter.metrics(counts, 0)
    if not data.source:
        reporter.image("ingest/world", sheet([*KINDS, *dict.fromkeys([*EDIT_KINDS, *data.edit_mix])], 2, min(data.image_size, 96), cfg.seed, zoom=2), 0)


def _write(rows: Iterator[Row], writer: ShardWriter) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for row in rows:
        writer.add(row)
        counts.update(["ingest/rows", f"ingest/rows_{row.split}", f"ingest/rows_{row.source}", f"ingest/rows_{row.task}"])
        counts["ingest/bytes"] += len(row.data)
    return {name: float(value) for name, value in sorted(counts.items())}


def _world_rows(data: DataConfig, seed: int) -> Iterator[Row]:
    """The planned items in order."""
    items = plan(data, seed)
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    return _drawn("world", partial(_draw_items, seed=seed, n_captions=data.captions_per_image), chunks, data.workers, FEW)


def _page_rows(data: DataConfig, seed: int) -> Iterator[Row]:
    for split, n in (("train", data.pages.count), ("heldout", data.pages.heldout)):
        if n:
            chunks = [range(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]
            yield from _drawn("pages of text", partial(_draw_pages, config=data.pages, seed=seed, split=split), chunks, data.workers, FEW)


def _drawn(label: str, draw: Callable[[T], list[Row]], chunks: Sequence[T], workers: int, few: int) -> Iterator[Row]:
    """The rows of all chunks in order; the bytes do not depend on the number of processes, of which up to ``few`` items start none."""
    total = sum(map(len, chunks))
    with Progress(f"ingest: {label}", total, "img") as progress:
        for chunk, rows in zip(chunks, _made(draw, chunks, workers if total > few else 0), strict=True):
            yield from rows
            progress.update(len(chunk))


def _made(draw: Callable[[T], list[Row]], chunks: Sequence[T], workers: int) -> Iterator[list[Row]]:
    if workers < 2:
        yield from map(draw, chunks)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(draw, chunks)


def _draw_items(items: Sequence[Item], seed: int, n_captions: int) -> list[Row]:
    return [row for item in items for row in make_rows(item, seed, n_captions)]


def _draw_pages(numbers: Sequence[int], config: PagesConfig, seed: int, split: str) -> list[Row]:
    return [page_row(number, config, seed, split) for number in numbers]


def _photo_rows(data: DataConfig, seed: int) -> Iterator[Row]:
    for split, n in (("train", data.photo_crops), ("heldout", data.heldout_crops)):
        if n:
            yield from photo_crops(n, data.photo_sizes, seed, split)


def _photo_edit_rows(data: DataConfig, seed: int, writer: ShardWriter) -> Iterator[Row]:
    """Edits of the photographs that were written so far."""
    config = data.photo_edits
    if not config.count:
        return
    writer.flush()  # the processes read the shards
    photos = [
        _photograph(line, writer.folder)
        for line in writer.lines
        if line["source"] in PHOTOGRAPHS and line["task"] == "t2i" and line["format"] and not line["opt_out"]
    ]
    draw = partial(picked_rows, seed=seed, weights=kind_weights(config.kinds), side=config.side, square=config.square)
    picked = picks(photos, config.count, seed)
    chunks = [picked[start : start + PAIRS] for start in range(0, len(picked), PAIRS)]
    yield from _drawn("photo edits", draw, chunks, data.workers, FEW_PAIRS)


def _photograph(line: Mapping[str, Any], folder: Path) -> Photograph:
    """A line's picture, which any process can read."""
    place = {name: line[name] for name in ("id", "shard", "offset", "length")}
    load = partial(read_image, folder, place)
    return Photograph(line["id"], load, next(iter(line["captions"]), ""), line["licence"], line["origin"], line["split"])


def _user_rows(data: DataConfig) -> Iterator[Row]:
    with Progress("ingest: read", 1, "img") as progress:
        for index, given in enumerate(read_source(data.source, Path(data.cache))):
            progress.total = index + 1
            yield from _rows_of(f"user-{index:06d}", given, data)
            progress.update()


def _rows_of(name: str, given: UserRow, data: DataConfig) -> Iterator[Row]:
    """A user's row, its references first; held out by a hash of its content, so that copies land on the same side."""
    number = int(hashlib.sha256(given.data).hexdigest()[:8], 16) / 16**8
    split = "heldout" if number < data.heldout_fraction else "train"
    row = partial(Row, source="user", split=split, licence=given.licence or data.licence, origin=given.origin or given.name, opt_out=given.opt_out)
    references = tuple(f"{name}-ref{i}" for i in range(len(given.references)))
    for reference, (content, suffix) in zip(references, given.references, strict=True):
        yield row(reference, content, _extension(suffix), (), task="reference", kind="reference")
    task, caption_kind = ("ti2i", "instruction") if references else ("t2i", "general")
    extension = _extension(given.suffix)
    region = None if given.mask is None else given_region(given.mask, given.data)
    yield row(name, given.data, extension, given.captions, task=task, references=references, region=region, caption_kind=caption_kind)


def _extension(suffix: str) -> str:
    plain = "".join(letter for letter in suffix.lower() if letter.isascii() and letter.isalnum())
    return plain[:8] or "bin"
