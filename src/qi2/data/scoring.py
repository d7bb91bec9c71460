"""Scores every row: one decode per image, in worker processes that each hold the filters' models with one thread."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
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
from qi2.data.filters.registry import FILTERS, load_scorers, measure
from qi2.data.shards import read_bytes

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
Job = dict[str, Any]  # a file (shard, offset, length, sha256) and the ``rows`` that consist of it (id, role, captions)
Scored = list[tuple[str, Row]]
CHUNK = 4  # batches per task of a worker
MOST_ASPECT = 32  # models resize by the shorter side: a line of pixels would become gigabytes, and gets no scores of theirs
NOT_NUMBERS = ("broken", "pixel_sha256", "thumbnail")


@dataclass
class _Worker:
    """What one process keeps between chunks; the models are loaded with its first chunk, so that errors reach the caller."""

    raw: Path
    paths: ModelPaths
    device: str
    batch_size: int
    max_pixels: int

    @cached_property
    def scorers(self) -> list[Scorer]:
        return load_scorers(self.paths, self.device)


_worker: _Worker | None = None


def score_rows(rows: "pd.DataFrame", raw: Path, paths: ModelPaths, config: CurateConfig) -> "pd.DataFrame":
    """One line of scores per row, indexed like ``rows`` (a sidecar with ``role``); ``broken`` says why a file cannot be used.

    Rows with the same bytes share one decode.
    """
    import pandas as pd

    jobs = _jobs(rows)
    chunks = [jobs[start : start + CHUNK * config.batch_size] for start in range(0, len(jobs), CHUNK * config.batch_size)]
    scores: dict[str, Row] = {}
    with Progress("curate: score", len(rows), "img") as progress:
        for done in _run(chunks, raw, paths, config):
            scores.update(done)
            progress.update(len(done))
    columns = [column for item in FILTERS for column in item.columns]
    table = pd.DataFrame.from_records([scores[name] for name in rows["id"]], index=rows.index).reindex(columns=columns)
    return table.astype({column: float for column in columns if column not in NOT_NUMBERS} | dict.fromkeys(NOT_NUMBERS, object))


def _jobs(rows: "pd.DataFrame") -> list[Job]:
    jobs: dict[str, Job] = {}
    columns = [rows[name].tolist() for name in ("id", "role", "captions", "shard", "offset", "length", "sha256")]
    for name, role, captions, shard, offset, length, sha256 in zip(*columns, strict=True):
        job = jobs.setdefault(sha256, {"shard": shard, "offset": offset, "length": length, "sha256": sha256, "rows": []})
        job["rows"].append({"id": name, "role": role, "captions": list(captions)})
    return list(jobs.values())


def _run(chunks: list[list[Job]], raw: Path, paths: ModelPaths, config: CurateConfig) -> Iterator[Scored]:
    worker = _Worker(raw, paths, config.device, config.batch_size, config.max_pixels)
    if config.workers == 0:
        with _one_thread():
            yield from (_score_chunk(worker, chunk) for chunk in chunks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, context, initializer=_start_worker, initargs=(worker,)) as pool:
        try:
            for future in as_completed([pool.submit(_score_in_worker, chunk) for chunk in chunks]):
                yield future.result()
        except BrokenProcessPool as error:
            raise QI2Error("a curation worker died, probably for lack of memory; lower curate.workers or curate.batch_size") from error


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in the workers, so that the last bits of the scores do not depend on how many there are."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _start_worker(worker: _Worker) -> None:
    import torch

    global _worker
    torch.set_num_threads(1)
    _worker = worker


def _score_in_worker(chunk: list[Job]) -> Scored:
    assert _worker is not None
    return _score_chunk(_worker, chunk)


def _score_chunk(worker: _Worker, chunk: list[Job]) -> Scored:
    scored: Scored = []
    for start in range(0, len(chunk), worker.batch_size):
        scored += _score_batch(worker, chunk[start : start + worker.batch_size])
    return scored


def _score_batch(worker: _Worker, jobs: list[Job]) -> Scored:
    scores: dict[str, Row] = {}
    usable: list[tuple[Picture, list[Row]]] = []
    for job in jobs:
        try:
            picture = decode(read_bytes(worker.raw, job), job["sha256"], worker.max_pixels)
        except BrokenImageError as error:
            scores |= {row["id"]: {"broken": str(error)} for row in job["rows"]}
            continue
        if max(picture.image.size) <= MOST_ASPECT * min(picture.image.size):
            usable.append((picture, job["rows"]))
        columns = {"broken": None, **measure(picture)}
        scores |= {row["id"]: dict(columns) for row in job["rows"]}
    for scorer in worker.scorers:
        _score_model(scorer, usable, scores)
    return list(scores.items())


def _score_model(scorer: Scorer, usable: list[tuple[Picture, list[Row]]], scores: dict[str, Row]) -> None:
    """Run one model over the pictures, or over the rows of its roles, and add its columns."""
    if scorer.roles:
        work = [(picture, [row], row["captions"]) for picture, rows in usable for row in rows if row["role"] in scorer.roles]
    else:
        work = [(picture, rows, []) for picture, rows in usable]
    if not work:
        return
    columns = scorer.score([picture.image for picture, _, _ in work], [captions for _, _, captions in work])
    for column, values in columns.items():
        for (_, rows, _), value in zip(work, values.tolist(), strict=True):
            for row in rows:
                scores[row["id"]][column] = value if np.isfinite(value) else None
