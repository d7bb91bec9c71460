"""A model on a suite: pictures from the store or drawn, answers from the store or asked for, figures with intervals.

Noise belongs to a prompt and the number of its picture, not to the suite: two suites with the same prompt share its pictures.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.rng import key
from qi2.evaluation.aggregate.base import Answer, Numbers, Table
from qi2.evaluation.aggregate.intervals import figures
from qi2.evaluation.aggregate.registry import AGGREGATORS
from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.scorers.base import Scorer
from qi2.evaluation.store import Store, key_of
from qi2.evaluation.suites.row import Row
from qi2.evaluation.suites.suite import Suite


class Painter(Protocol):
    """Whoever draws. ``facts`` are all that decides a picture beside prompt, references, noise and size; ``size`` is its own in pixels."""

    name: str
    facts: Mapping[str, Any]
    size: int
    batch: int

    def draw(self, prompts: Sequence[str], references: Sequence[Sequence[Image.Image]], seeds: Sequence[int], size: int) -> list[Image.Image]: ...


@dataclass(frozen=True)
class Job:
    """One picture to be had: row, noise seed, and the facts that its key is made of."""

    row: Row
    seed: int
    facts: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The picture's key in the store."""
        return key_of(self.facts)


@dataclass(frozen=True)
class Drawn:
    """The pictures of a suite: hash per job, how many were drawn now and in which time; ``spent_s``: what all took, drawn now or before."""

    pictures: list[str]
    drawn: int
    seconds: float
    spent_s: float


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


def evaluate_suite(painter: Painter, suite: Suite, scorer: Scorer, store: Store, seed: int = 2026, resamples: int = 1000) -> Result:
    """Draw what is missing, ask what was not asked, and aggregate; ``seed`` is of noise and intervals."""
    jobs = plan(painter, suite, seed)
    drawn = draw(painter, jobs, store)
    started = time.monotonic()
    given, asked = _answers(suite, scorer, jobs, drawn.pictures, store)
    numbers = _measure(suite, jobs, given)
    answered = [row for row in suite.rows if numbers[row.id]]
    if not answered:
        raise QI2Error(f"{scorer.name} gave no answer that could be understood on suite {suite.name}; look at one reply, or name another model")
    aggregator = AGGREGATORS[suite.config.aggregate]
    table = Table.of([row.category for row in answered], [numbers[row.id] for row in answered])
    found = figures(table, lambda one: aggregator.combine(one, suite.config.options), seed, resamples, aggregator.scale)
    items = _items(suite, jobs, drawn.pictures, numbers)
    return Result(painter.name, painter.facts, suite, scorer.name, scorer.identity, found, items, drawn, asked, given.count(None), time.monotonic() - started)


def plan(painter: Painter, suite: Suite, seed: int) -> list[Job]:
    """Every picture of a suite, prompt by prompt."""
    size, jobs = suite.config.size or painter.size, []
    for row in suite.rows:
        facts = {**painter.facts, "prompt": row.prompt, "references": [reference.hash(size) for reference in row.references], "size": size}
        for number in range(suite.config.images):
            noise = key(seed, f"evaluate/suites/{row.prompt}", number)
            jobs.append(Job(row, noise, {**facts, "noise": noise}))
    return jobs


def draw(painter: Painter, jobs: Sequence[Job], store: Store) -> Drawn:
    """Hash of every job's picture; those that the store lacks are drawn batch by batch, and kept after each."""
    found, seconds = store.find([job.key for job in jobs]), 0.0
    missing = [job for job in {job.key: job for job in jobs}.values() if job.key not in found]
    with Progress(f"draw {painter.name}", len(missing), "picture", quiet=not missing) as progress:
        for start in range(0, len(missing), painter.batch):
            part, started = missing[start : start + painter.batch], time.monotonic()
            size = int(part[0].facts["size"])
            references = [[reference.open(size) for reference in job.row.references] for job in part]
            pictures = painter.draw([job.row.prompt for job in part], references, [job.seed for job in part], size)
            took = time.monotonic() - started
            found |= dict(zip((job.key for job in part), store.add(painter.name, [job.facts for job in part], pictures, took), strict=True))
            seconds += time.monotonic() - started
            progress.update(len(part))
    return Drawn([found[job.key] for job in jobs], len(missing), seconds, store.seconds([job.key for job in jobs]))


def _answers(suite: Suite, scorer: Scorer, jobs: Sequence[Job], pictures: Sequence[str], store: Store) -> tuple[list[Answer | None], int]:
    """An answer per job, and how many were asked for now. Answers are kept row by row."""
    keys = [_answer_key(job, picture, scorer) for job, picture in zip(jobs, pictures, strict=True)]
    known: dict[str, Answer | None] = dict(store.answers(keys))
    groups: dict[str, dict[str, int]] = {}
    for index, (job, name) in enumerate(zip(jobs, keys, strict=True)):
        if name not in known:
            groups.setdefault(job.row.id, {})[name] = index

    def ask(group: Mapping[str, int]) -> list[Answer | None]:
        indices = list(group.values())
        return scorer.answer([store.read(pictures[i]) for i in indices], jobs[indices[0]].row)

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


def _answer_key(job: Job, picture: str, scorer: Scorer) -> str:
    row = [job.row.prompt, job.row.category, job.facts["references"], job.row.truth]
    return key_of({"picture": picture, "scorer": scorer.identity, "row": row})


def _measure(suite: Suite, jobs: Sequence[Job], given: Sequence[Answer | None]) -> dict[str, list[Numbers]]:
    """{row's id: the numbers of its answered pictures}."""
    aggregator, numbers = AGGREGATORS[suite.config.aggregate], {row.id: list[Numbers]() for row in suite.rows}
    for job, answer in zip(jobs, given, strict=True):
        if answer is not None:
            numbers[job.row.id].append(aggregator.measure(answer, job.row, suite.config.options))
    return numbers


def _items(suite: Suite, jobs: Sequence[Job], pictures: Sequence[str], numbers: Mapping[str, list[Numbers]]) -> list[dict[str, Any]]:
    shown: dict[str, list[str]] = {}
    for job, picture in zip(jobs, pictures, strict=True):
        shown.setdefault(job.row.id, []).append(picture)
    return [{"id": row.id, "category": row.category, "prompt": row.prompt, "pictures": shown[row.id], "numbers": numbers[row.id]} for row in suite.rows]
