"""Scores every row: one decode per image, in worker processes that each hold the filters' models with one thread."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.data.curate_config import CurateConfig
from qi2.data.filters.base import Picture, Scorer
from qi2.data.filters.broken import BrokenImageError, decode
from qi2.data.filters.models import ModelPaths
from qi2.data.filters.registry import load_scorers, measure
from qi2.data.shards import read_bytes

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
FIELDS = ("id", "shard", "offset", "length", "sha256", "captions")


@dataclass
class _Worker:
    """What one process keeps between chunks; the models are loaded with its first chunk, so that errors reach the caller."""

    raw: Path
    paths: ModelPaths
    device: str
    batch_size: int

    @cached_property
    def scorers(self) -> list[Scorer]:
        return load_scorers(self.paths, self.device)


_worker: _Worker | None = None


def score_rows(rows: "pd.DataFrame", raw: Path, paths: ModelPaths, config: CurateConfig) -> "pd.DataFrame":
    """One line of scores per row, indexed like ``rows``; ``broken`` holds the reason where a file cannot be used."""
    import pandas as pd

    records = rows[list(FIELDS)].to_dict("records")
    chunks = [records[start : start + 4 * config.batch_size] for start in range(0, len(records), 4 * config.batch_size)]
    scores: dict[str, Row] = {}
    with Progress("curate: score", len(records), "img") as progress:
        for done in _run(chunks, raw, paths, config):
            scores.update(done)
            progress.update(len(done))
    table = pd.DataFrame.from_records([scores[name] for name in rows["id"]], index=rows.index)
    return table if "broken" in table else table.assign(broken=None)


def _run(chunks: list[list[Row]], raw: Path, paths: ModelPaths, config: CurateConfig) -> Iterator[dict[str, Row]]:
    worker = _Worker(raw, paths, config.device, config.batch_size)
    if config.workers == 0:
        yield from (_score_chunk(worker, chunk) for chunk in chunks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, context, initializer=_start_worker, initargs=(worker,)) as pool:
        try:
            for future in as_completed([pool.submit(_score_in_worker, chunk) for chunk in chunks]):
                yield future.result()
        except BrokenProcessPool as error:
            raise QI2Error("a curation worker died, probably for lack of memory; lower curate.workers or curate.batch_size") from error


def _start_worker(worker: _Worker) -> None:
    import torch

    global _worker
    torch.set_num_threads(1)
    _worker = worker


def _score_in_worker(chunk: list[Row]) -> dict[str, Row]:
    assert _worker is not None
    return _score_chunk(_worker, chunk)


def _score_chunk(worker: _Worker, chunk: list[Row]) -> dict[str, Row]:
    scores: dict[str, Row] = {}
    for start in range(0, len(chunk), worker.batch_size):
        pictures: dict[str, Picture] = {}
        batch = chunk[start : start + worker.batch_size]
        for row in batch:
            try:
                picture = decode(read_bytes(worker.raw, row), row["sha256"])
            except BrokenImageError as error:
                scores[row["id"]] = {"broken": str(error)}
                continue
            pictures[row["id"]] = picture
            scores[row["id"]] = {"broken": None, **measure(picture)}
        _score_models(worker.scorers, pictures, {row["id"]: list(row["captions"]) for row in batch}, scores)
    return scores


def _score_models(scorers: list[Scorer], pictures: dict[str, Picture], captions: dict[str, list[str]], scores: dict[str, Row]) -> None:
    if not pictures:
        return
    images = [picture.image for picture in pictures.values()]
    texts = [captions[name] for name in pictures]
    for scorer in scorers:
        for column, values in scorer.score(images, texts).items():
            for name, value in zip(pictures, values, strict=True):
                scores[name][column] = float(value) if np.isfinite(value) else None
