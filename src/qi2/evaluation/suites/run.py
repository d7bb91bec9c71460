"""A model on a suite: pictures from the store or drawn, answers from the store or asked for, figures with intervals.

Noise belongs to a prompt and the number of its picture, not to the suite: two suites with the same prompt share its pictures.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.rng import key
from qi2.evaluation.aggregate.base import Answer, Numbers, Table
from qi2.evaluation.aggregate.intervals import figures
from qi2.evaluation.aggregate.registry import AGGREGATORS
from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.drawing import Drawn, Job, Painter, draw, job_of
from qi2.evaluation.scorers.base import Scorer
from qi2.evaluation.store import Store, key_of
from qi2.evaluation.suites.row import Row
from qi2.evaluation.suites.suite import Suite


@dataclass(frozen=True)
class Result:
    """A model's figures on a suite, every prompt's numbers, and what it took. ``setting`` and ``identity``: all that decided pictures and answers."""

    model: str
    setting: Mapping[str, Any]
    suite: Suite
    scorer: str
    identity: str  # of the scorer
    figures: dict[str, Figure]
    items: list[dict[str, Any]]
    drawn: Drawn
    asked: int  # answers that were not in the store
    unanswered: int  # replies that could not be understood: left out of the figures
    seconds: float  # of scoring

    @property
    def label(self) -> str:
        """What the figures are called."""
        return self.suite.label(self.scorer)


def evaluate_suite(painter: Painter, suite: Suite, scorer: Scorer, store: Store, seed: int = 2026, resamples: int = 1000, exact: bool = False) -> Result:
    """Draw what is missing, ask what was not asked, and aggregate; ``seed`` is of noise and intervals, ``exact`` see `drawing.draw`."""
    rows, jobs = [row for row in suite.rows for _ in range(suite.config.images)], plan(painter, suite, seed)
    drawn = draw(painter, jobs, store, exact)
    started = time.monotonic()
    given, asked = _answers(suite, scorer, rows, jobs, drawn.pictures, store)
    numbers = _measure(suite, rows, given)
    answered = [row for row in suite.rows if numbers[row.id]]
    if not answered:
        raise QI2Error(f"{scorer.name} gave no answer that could be understood on suite {suite.name}; look at one reply, or name another model")
    aggregator = AGGREGATORS[suite.config.aggregate]
    table = Table.of([row.category for row in answered], [numbers[row.id] for row in answered])
    found = figures(table, lambda one: aggregator.combine(one, suite.config.options), seed, resamples, aggregator.scale)
    items = _items(suite, rows, drawn.pictures, numbers)
    return Result(painter.name, painter.facts, suite, scorer.name, scorer.identity, found, items, drawn, asked, given.count(None), time.monotonic() - started)


def plan(painter: Painter, suite: Suite, seed: int) -> list[Job]:
    """Every picture of a suite, prompt by prompt."""
    size, jobs = suite.config.size or painter.size, list[Job]()
    for row in suite.rows:
        hashes = [reference.hash(size) for reference in row.references]
        for number in range(suite.config.images):
            noise = key(seed, f"evaluate/suites/{row.prompt}", number)
            jobs.append(job_of(painter, row.prompt, partial(_opened, row, size), hashes, noise, size))
    return jobs


def _opened(row: Row, size: int) -> list[Image.Image]:
    return [reference.open(size) for reference in row.references]


def _answers(suite: Suite, scorer: Scorer, rows: Sequence[Row], jobs: Sequence[Job], pictures: Sequence[str], store: Store) -> tuple[list[Answer | None], int]:
    """An answer per job, and how many were asked for now. Answers are kept row by row."""
    keys = [_answer_key(row, job, picture, scorer) for row, job, picture in zip(rows, jobs, pictures, strict=True)]
    known: dict[str, Answer | None] = dict(store.answers(keys))
    groups: dict[str, dict[str, int]] = {}
    for index, (row, name) in enumerate(zip(rows, keys, strict=True)):
        if name not in known:
            groups.setdefault(row.id, {})[name] = index

    def ask(group: Mapping[str, int]) -> list[Answer | None]:
        indices = list(group.values())
        return scorer.answer([store.read(pictures[i]) for i in indices], rows[indices[0]])

    asked, pool = sum(map(len, groups.values())), ThreadPoolExecutor(getattr(scorer, "parallel", 1))
    try:
        with Progress(f"score {suite.name}", asked, "picture", quiet=not asked) as progress:
            for group, answers in zip(groups.values(), pool.map(ask, groups.values()), strict=True):
                known |= zip(group, answers, strict=True)
                store.keep_answers((name, pictures[group[name]], answer) for name, answer in zip(group, answers, strict=True) if answer is not None)
                progress.update(len(group))
    finally:
        pool.shutdown(cancel_futures=True)  # a server that has gone is not asked for the rest
    return [known[name] for name in keys], asked


def _answer_key(row: Row, job: Job, picture: str, scorer: Scorer) -> str:
    asked = [row.prompt, row.category, job.facts["references"], row.truth]
    return key_of({"picture": picture, "scorer": scorer.identity, "row": asked})


def _measure(suite: Suite, rows: Sequence[Row], given: Sequence[Answer | None]) -> dict[str, list[Numbers]]:
    """{row's id: the numbers of its answered pictures}."""
    aggregator, numbers = AGGREGATORS[suite.config.aggregate], {row.id: list[Numbers]() for row in suite.rows}
    for row, answer in zip(rows, given, strict=True):
        if answer is not None:
            numbers[row.id].append(aggregator.measure(answer, row, suite.config.options))
    return numbers


def _items(suite: Suite, rows: Sequence[Row], pictures: Sequence[str], numbers: Mapping[str, list[Numbers]]) -> list[dict[str, Any]]:
    shown: dict[str, list[str]] = {}
    for row, picture in zip(rows, pictures, strict=True):
        shown.setdefault(row.id, []).append(picture)
    return [{"id": row.id, "category": row.category, "prompt": row.prompt, "pictures": shown[row.id], "numbers": numbers[row.id]} for row in suite.rows]
