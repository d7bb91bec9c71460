"""Scores the files of one shard: one decode per file, whatever the number of filters and of rows that consist of it.

A worker holds the filters' models with one thread, and as many decoded pictures as ``batch_size`` and ``batch_pixels`` allow.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from qi2.data.curate_config import CurateConfig
from qi2.data.filters.base import Picture, Scorer
from qi2.data.filters.broken import BrokenImageError, decode
from qi2.data.filters.models import ModelPaths
from qi2.data.filters.registry import load_scorers, measure
from qi2.data.shards import read_bytes

Row = dict[str, Any]
File = dict[str, Any]  # shard, offset, length, sha256, pixels, and the ``rows`` that consist of it (id, role, captions)
Scored = dict[str, Row]  # by the rows' ids
MOST_ASPECT = 32  # models resize by the shorter side: a line of pixels would become gigabytes, and gets no scores of theirs


@dataclass(frozen=True)
class Limits:
    """What a worker may hold at once, and where its models run; the fields are those of `CurateConfig`."""

    device: str
    batch_size: int
    batch_pixels: int
    max_pixels: int

    @staticmethod
    def of(config: CurateConfig) -> "Limits":
        return Limits(config.device, config.batch_size, config.batch_pixels, config.max_pixels)


def score_files(files: Sequence[File], raw: Path, paths: ModelPaths, state: str, limits: Limits) -> Scored:
    """Score columns of every row of the files; ``broken`` says why a file cannot be used. ``state``: tells versions of the models apart."""
    scored: Scored = {}
    scorers = _scorers(paths, state, limits.device)
    with _one_thread() if scorers else nullcontext():  # without models torch is not even imported
        for batch in batches(files, limits):
            scored |= _score_batch(batch, raw, scorers, limits.max_pixels)
    return scored


def batches(files: Sequence[File], limits: Limits) -> Iterator[list[File]]:
    """Files in order, at most ``batch_size`` and, by their headers, ``batch_pixels`` together, but always one."""
    batch: list[File] = []
    pixels = 0
    for file in files:
        size = min(file["pixels"], limits.max_pixels)
        if batch and (len(batch) == limits.batch_size or pixels + size > limits.batch_pixels):
            yield batch
            batch, pixels = [], 0
        batch.append(file)
        pixels += size
    if batch:
        yield batch


@lru_cache(maxsize=1)
def _scorers(paths: ModelPaths, state: str, device: str) -> list[Scorer]:
    """Loaded once per process, and again when the models in the same folders are others."""
    return load_scorers(paths, device)


@contextmanager
def _one_thread() -> Iterator[None]:
    """So that the last bits of the scores depend neither on the machine nor on how many workers there are."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _score_batch(files: list[File], raw: Path, scorers: list[Scorer], max_pixels: int) -> Scored:
    scores: Scored = {}
    blank = {column: None for scorer in scorers for column in scorer.columns}
    usable: list[tuple[Picture, list[Row]]] = []
    for file in files:
        try:
            picture = decode(read_bytes(raw, file), file["sha256"], max_pixels)
        except BrokenImageError as error:
            scores |= {row["id"]: {"broken": str(error)} for row in file["rows"]}
            continue
        if max(picture.image.size) <= MOST_ASPECT * min(picture.image.size):
            usable.append((picture, file["rows"]))
        columns = {"broken": None, **measure(picture), **blank}
        scores |= {row["id"]: dict(columns) for row in file["rows"]}
    for scorer in scorers:
        _score_model(scorer, usable, scores)
    return scores


def _score_model(scorer: Scorer, usable: list[tuple[Picture, list[Row]]], scores: Scored) -> None:
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
                scores[row["id"]][column] = value if isinstance(value, bytes) or np.isfinite(value) else None
