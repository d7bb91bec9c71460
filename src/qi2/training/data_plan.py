"""The data plan of one training stage: which rows every step sees, a pure function of (seed, data, step), whatever the ranks and workers.

Groups are (task, kind); T2I and TI2I share the samples by ``ti2i_share`` (report Table 2), kinds by their weights within a task. At each size
there is one stream of samples. Its epoch has as many as the size has rows, rounded up to whole batches, so no tail is ever dropped. Within a
group rows come in one permutation after the other: none comes twice before all have come once. Which size a step has is a shuffled cycle too.
Every sample has a number, unique over the phase, that keys everything random about it (caption, dropout, noise). Free of torch.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.training.interleave import Interleave
from qi2.training.share import Share

T2I, TI2I = "t2i", "ti2i"
LONGEST_CYCLE = 1000  # steps in which the sizes have their shares
KEPT = 4  # permutations of a group kept in memory


@dataclass
class PlanSettings:
    """What decides a stage's plan beside its rows. ``batch_sizes`` and ``size_weights`` (relative, of the steps; empty: equal): one per size."""

    sizes: list[int]
    batch_sizes: list[int]
    ti2i_share: float = 0.0
    size_weights: list[float] = field(default_factory=list)
    kind_weights: dict[str, float] = field(default_factory=dict)  # relative, within a task; 1 where absent
    mixed: bool = True  # both tasks in every batch; else each batch is of one task, and the tasks share the steps


@dataclass
class PlanRows:
    """A stage's rows: index in the whole table, task and kind (n,), and per size which are encoded there. ``version``: hash of the whole table."""

    index: np.ndarray
    task: np.ndarray
    kind: np.ndarray
    ready: dict[int, np.ndarray]
    version: str


@dataclass
class StepPlan:
    """One step: its size in px, row indices (B,) and the samples' numbers (B,)."""

    size: int
    rows: np.ndarray
    samples: np.ndarray

    def part(self, share: Share) -> "StepPlan":
        """The samples of one share. All shares together have the step's samples, each once; QI2Error where they would not be equal."""
        own = np.asarray(share.of(range(len(self.rows))))
        return StepPlan(self.size, self.rows[own], self.samples[own])


class Group:
    """The rows of one (task, kind) at one size, without end: one permutation after the other."""

    def __init__(self, rows: np.ndarray, seed: int, purpose: str) -> None:
        self.rows, self.seed, self.purpose = rows, seed, purpose
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """The rows at these places (ascending) of the stream."""
        rounds = places // len(self.rows)
        return np.concatenate([self._round(int(k))[places[rounds == k] % len(self.rows)] for k in np.unique(rounds)])

    def _round(self, k: int) -> np.ndarray:
        if k not in self._kept:
            self._kept[k] = rng.numpy_rng(self.seed, self.purpose, k).permutation(self.rows)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[k]


class Stream:
    """All samples at one size."""

    def __init__(self, rows: PlanRows, size: int, batch: int, settings: PlanSettings, seed: int, name: str) -> None:
        self.size, self.batch = size, batch
        ready = rows.ready[size]
        labels = group_names(rows, ready)
        wanted = shares(labels, settings)
        self.labels = [label for label, share in zip(labels, wanted, strict=True) if share > 0]
        self.shares = wanted[wanted > 0]
        members = [rows.index[ready & (rows.task == task) & (rows.kind == kind)] for task, kind in self.labels]
        self.groups = [Group(own, seed, f"{name}/{size}/{task}/{kind}") for own, (task, kind) in zip(members, self.labels, strict=True)]
        total = sum(len(own) for own in members)
        self.epoch = max(1, -(-total // batch)) * batch
        self.order = Interleave(self.shares, self.epoch, seed, f"{name}/{size}/{self.labels[0][0]}/order")

    def rows(self, step: int) -> np.ndarray:
        """Row indices (batch,) of the step-th batch of this size."""
        epoch, start = divmod(step * self.batch, self.epoch)
        labels, places = (part[start : start + self.batch] for part in self.order.cycle(epoch))
        found = np.empty(self.batch, np.int64)
        for label in np.unique(labels):
            found[labels == label] = self.groups[label](places[labels == label])
        return found


class DataPlan:
    """The plan of one stage; ``first``: the number of its first sample, which is how many earlier stages of the phase drew.

    Raises QI2Error where a size has no rows, or the settings do not fit each other.
    """

    def __init__(self, rows: PlanRows, settings: PlanSettings, seed: int, name: str, first: int = 0) -> None:
        check(rows, settings, name)
        self.rows, self.settings, self.seed, self.name, self.first = rows, settings, seed, name, first
        self.streams: list[Stream] = []
        weights: list[float] = []
        each = zip(settings.sizes, settings.batch_sizes, settings.size_weights or [1.0] * len(settings.sizes), strict=True)
        for size, batch, weight in each:
            whole = Stream(rows, size, batch, settings, seed, name)
            tasks = {task: sum(share for (own, _), share in zip(whole.labels, whole.shares, strict=True) if own == task) for task, _ in whole.labels}
            if settings.mixed or len(tasks) == 1:
                self.streams, weights = [*self.streams, whole], [*weights, weight]
                continue
            self.streams += [Stream(only(rows, task), size, batch, settings, seed, name) for task in tasks]
            weights += [weight * float(share) for share in tasks.values()]
        self.turns = Interleave(np.array(weights), cycle_length(weights), seed, f"{name}/sizes")

    def step(self, step: int) -> StepPlan:
        """What the stage's step (from 0) sees."""
        cycle, place = divmod(step, self.turns.length)
        labels, counts = self.turns.cycle(cycle)
        stream = self.streams[labels[place]]
        return StepPlan(stream.size, stream.rows(int(counts[place])), self.first + self.drawn(step) + np.arange(stream.batch, dtype=np.int64))

    def drawn(self, steps: int) -> int:
        """Samples in so many first steps."""
        return int(self.turns.count(steps) @ np.array([stream.batch for stream in self.streams]))

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the plan: where two are equal, so are all steps."""
        groups = {
            f"{stream.size}/{task}/{kind}": [len(group.rows), float(share)]
            for stream in self.streams
            for (task, kind), group, share in zip(stream.labels, stream.groups, stream.shares, strict=True)
        }
        sizes = {
            f"{stream.size}/{stream.labels[0][0]}": [stream.batch, stream.epoch, float(share)]
            for stream, share in zip(self.streams, self.turns.shares, strict=True)
        }
        return {"seed": self.seed, "name": self.name, "data": self.rows.version, "first": self.first, "sizes": sizes, "groups": groups}

    def figures(self, steps: int) -> dict[str, float]:
        """Samples per size and per group in so many steps, how often a row is seen (``epochs``), and the rows that are never drawn, by reason."""
        found: dict[str, float] = {}
        for stream, turns in zip(self.streams, self.turns.count(steps).tolist(), strict=True):
            found[f"{stream.size}/samples"] = found.get(f"{stream.size}/samples", 0.0) + turns * stream.batch
            for (task, kind), group, n in zip(stream.labels, stream.groups, stream.order.count(turns * stream.batch).tolist(), strict=True):
                found[f"{stream.size}/{task}/{kind or 'none'}/samples"] = float(n)
                found[f"{stream.size}/{task}/{kind or 'none'}/epochs"] = n / len(group.rows)
        encoded = np.any([self.rows.ready[size] for size in self.settings.sizes], axis=0)
        drawn = {row for stream, turns in zip(self.streams, self.turns.shares, strict=True) if turns for group in stream.groups for row in group.rows.tolist()}
        found["rows"] = float(len(encoded))
        found["never_not_encoded"] = float((~encoded).sum())
        found["never_weight_zero"] = float(encoded.sum() - len(drawn))
        return found


def only(rows: PlanRows, task: str) -> PlanRows:
    """The same rows, of which those of one task alone may be drawn."""
    return replace(rows, ready={size: ready & (rows.task == task) for size, ready in rows.ready.items()})


def group_names(rows: PlanRows, chosen: np.ndarray) -> list[tuple[str, str]]:
    """Every (task, kind) among the chosen rows, in order."""
    return sorted({(str(task), str(kind)) for task, kind in zip(rows.task[chosen], rows.kind[chosen], strict=True)})


def shares(labels: list[tuple[str, str]], settings: PlanSettings) -> np.ndarray:
    """Share of every (task, kind) of the samples; where one of the tasks is missing, or all its kinds have weight 0, the other has all."""
    weights = np.array([max(settings.kind_weights.get(kind, 1.0), 0.0) for _, kind in labels], dtype=float)
    edits = np.array([task == TI2I for task, _ in labels], dtype=bool)
    totals = {True: weights[edits].sum(), False: weights[~edits].sum()}
    share = (settings.ti2i_share if totals[True] else 0.0) if totals[False] else 1.0
    part = np.where(edits, share, 1 - share)
    return part * weights / np.maximum(np.where(edits, totals[True], totals[False]), 1e-300)


def cycle_length(weights: list[float]) -> int:
    """Steps after which sizes with these weights have come in whole numbers; the longest cycle where that takes longer."""
    exact = [Fraction(weight / sum(weights)).limit_denominator(LONGEST_CYCLE) for weight in weights]
    return min(lcm(*(share.denominator for share in exact)), LONGEST_CYCLE)


def check(rows: PlanRows, settings: PlanSettings, name: str) -> None:
    """Raise QI2Error where the settings do not fit each other or the rows."""
    given = {"batch_sizes": settings.batch_sizes, "size_weights": settings.size_weights or settings.sizes}
    for what, values in given.items():
        if len(values) != len(settings.sizes):
            raise QI2Error(f"{name}: {what} {values} does not fit sizes {settings.sizes}; give one for each size")
    if not 0 <= settings.ti2i_share <= 1:
        raise QI2Error(f"{name}: ti2i_share is {settings.ti2i_share}; choose 0 to 1")
    if min(settings.batch_sizes, default=0) < 1 or min(settings.size_weights, default=0) < 0 or not any(settings.size_weights or [1.0]):
        asked = f"sizes {settings.sizes} with batches {settings.batch_sizes} and weights {settings.size_weights}"
        raise QI2Error(f"{name}: {asked}; each batch needs a sample, and some size a weight")
    for size in settings.sizes:
        ready = rows.ready.get(size, np.zeros(len(rows.index), dtype=bool))
        if not ready.any():
            fix = f"add {size} to encode.sizes, and pictures that fill it, or take it out of the stage's sizes"
            raise QI2Error(f"{name}: none of {len(rows.index)} rows is encoded at {size} px; {fix}")
        if not shares(group_names(rows, ready), settings).any():
            raise QI2Error(f"{name}: all rows at {size} px have weight 0; give one of their kinds a weight in kind_weights")
