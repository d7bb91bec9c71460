"""Sampling once, scoring many: every picture that an evaluation looks at comes from the store, and what the store lacks is drawn and kept batch by batch.

A run that was killed goes on after its last batch, a model that did not change is not drawn again, and a scorer or formula that did change costs no drawing.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from PIL import Image

from qi2.core.progress import Progress
from qi2.evaluation.store import Store, key_of

TOGETHER = "together"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Job:
    """One picture to be had: prompt, what opens its references, noise seed, and the facts that its key is made of."""

    prompt: str
    references: Callable[[], list[Image.Image]]
    seed: int
    facts: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The picture's key in the store."""
        return key_of(self.facts)


class Painter(Protocol):
    """Whoever draws. ``facts`` are all that decides a picture beside prompt, references, noise and size; ``size`` is its own in pixels."""

    name: str
    facts: Mapping[str, Any]
    size: int
    batch: int

    def draw(self, jobs: Sequence[Job]) -> Iterator[list[Image.Image]]:
        """The pictures, ``batch`` at a time."""
        ...


@dataclass(frozen=True)
class Drawn:
    """The pictures of a suite: hash per job, how many were drawn now and in which time, with all that was loaded and encoded for it.

    ``spent_s``: what drawing all of them took, now or before.
    """

    pictures: list[str]
    drawn: int
    seconds: float
    spent_s: float

    def open(self, store: Store) -> list[Image.Image]:
        """The pictures themselves."""
        return [store.read(picture) for picture in self.pictures]


def job_of(painter: Painter, prompt: str, references: Callable[[], list[Image.Image]], hashes: Sequence[str], seed: int, size: int = 0) -> Job:
    """A picture by a painter, of its own size where none is given; ``hashes`` are of the references."""
    return Job(prompt, references, seed, {**painter.facts, "prompt": prompt, "references": list(hashes), "size": size or painter.size, "noise": seed})


def jobs_of(painter: Painter, prompts: Sequence[str], references: Sequence[list[Image.Image]], seeds: Sequence[int]) -> list[Job]:
    """The pictures of prompts whose references are in memory."""
    pairs = zip(prompts, references, seeds, strict=True)
    return [job_of(painter, prompt, partial(list, group), [picture_hash(image) for image in group], seed) for prompt, group, seed in pairs]


def picture_hash(image: Image.Image) -> str:
    """Of a picture in memory: its mode, size and pixels."""
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()


def draw(painter: Painter, jobs: Sequence[Job], store: Store, exact: bool = False) -> Drawn:
    """Hash of every job's picture; those that the store lacks are drawn batch by batch, and kept after each.

    Rounding differs with what else is in a batch. ``exact`` pictures are only taken from a batch of the very same ones, and redrawn as a whole batch, so
    that a store changes no bit of any result: what a DVC stage needs. Otherwise whatever was drawn of the same facts will do.
    """
    jobs = _in_company(jobs, painter.batch) if exact else jobs
    keys = [job.key for job in jobs]
    found = store.find(keys)
    missing, started = _missing(dict(zip(keys, jobs, strict=True)), found), time.monotonic()
    with Progress(f"draw {painter.name}", len(missing), "picture", quiet=not missing) as progress:
        made = painter.draw(missing) if missing else iter(())
        before = time.monotonic()
        for part, pictures in zip(chunks(missing, painter.batch), made, strict=True):
            took, before = time.monotonic() - before, time.monotonic()
            found |= dict(zip((job.key for job in part), store.add(painter.name, [job.facts for job in part], pictures, took), strict=True))
            progress.update(len(part))
    return Drawn([found[name] for name in keys], len(missing), time.monotonic() - started, store.seconds(keys))


def chunks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Runs of ``size``, the last of what is left."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def _in_company(jobs: Sequence[Job], batch: int) -> list[Job]:
    """The same jobs, each with a digest of all that are drawn in its batch among its facts."""
    own = {job.key: job for job in jobs}
    made: dict[str, Job] = {}
    for part in chunks(list(own.values()), batch):
        company = key_of({TOGETHER: [job.key for job in part]})
        made |= {job.key: replace(job, facts={**job.facts, TOGETHER: company}) for job in part}
    return [made[job.key] for job in jobs]


def _missing(jobs: Mapping[str, Job], found: Mapping[str, str]) -> list[Job]:
    torn = {job.facts.get(TOGETHER) for name, job in jobs.items() if name not in found}
    return [job for name, job in jobs.items() if name not in found or (TOGETHER in job.facts and job.facts[TOGETHER] in torn)]
