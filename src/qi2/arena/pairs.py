"""Blind pairs: which two pictures a voter sees next, and on which sides.

Entrants meet the more often, the more one further vote would narrow what is known about them (Chatbot Arena, Chiang et al. 2024, section 5), each on
the prompts with the fewest votes so far. Pictures with the same bytes never meet. What is drawn is a function of (seed, voter, votes so far).
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qi2.arena.entrants import SUITES, Entrant, Field, Picture, Task
from qi2.arena.rating import Array, Comparison, fit, information, wins_by_prompt
from qi2.arena.votes import SCORES, Vote
from qi2.core.rng import key, numpy_rng


@dataclass(frozen=True)
class Pair:
    """Two entrants' pictures for a task, as shown."""

    task: Task
    left: Entrant
    right: Entrant

    @property
    def id(self) -> str:
        """The same whichever side a picture is on."""
        return pair_id(self.task.id, *(picture.sha256 for picture in self.pictures))

    @property
    def pictures(self) -> tuple[Picture, Picture]:
        """Left and right."""
        return self.left.pictures[self.task.id], self.right.pictures[self.task.id]

    def swapped(self) -> "Pair":
        """The other way round."""
        return Pair(self.task, self.right, self.left)

    def vote(self, voter: str, choice: str, by: str) -> Vote:
        """A choice between these pictures."""
        asked = (self.task.suite, self.task.category, self.task.id, self.task.prompt)
        left, right = self.pictures
        return Vote(voter, self.id, choice, by, *asked, self.left.name, left.sha256, self.right.name, right.sha256)


def pair_id(task: str, *pictures: str) -> str:
    """32 hex digits of a task and two pictures' sha256."""
    return hashlib.sha256("|".join([task, *sorted(pictures)]).encode()).hexdigest()[:32]


def all_pairs(field: Field, suites: Sequence[str] = SUITES) -> Iterator[Pair]:
    """Every pair of pictures that differ, entrants in the order of their names."""
    entrants = [field.entrants[name] for name in sorted(field.entrants)]
    for task in field.tasks.values():
        for left, right in itertools.combinations(entrants, 2):
            if task.suite in suites and _meet(left, right, task.id):
                yield Pair(task, left, right)


def comparisons(field: Field, rows: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Comparison]]:
    """The votes that still count, beside their rows: no skip, on pictures that the entrants still show."""
    found = []
    for row in rows:
        current = all(_shows(field, row[f"{side}_entrant"], row["task"], row[f"{side}_sha256"]) for side in ("left", "right"))
        if current and row["choice"] in SCORES:
            found.append((row, Comparison(row["left_entrant"], row["right_entrant"], SCORES[row["choice"]], row["task"])))
    return found


class Draw:
    """Draws pairs by what the votes, as of the last ``update``, have left uncertain."""

    def __init__(self, field: Field, seed: int = 0) -> None:
        self.field, self.seed, self.names = field, seed, sorted(field.entrants)
        self.shared = {suite: self._shared(suite) for suite in SUITES}
        self.seen: Counter[str] = Counter()
        self.weights: dict[str, Array] = {}
        self.update([])

    def update(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Look at the votes so far: ``weights`` are chances (n, n) of every suite, summing to 1, 0 where there is nothing to compare."""
        counted = comparisons(self.field, rows)
        self.seen = Counter(str(row["pair"]) for row, _ in counted)
        for suite, shared in self.shared.items():
            weight = shared * information(*self._standing([comparison for row, comparison in counted if row["suite"] == suite]))
            if weight.any():
                self.weights[suite] = weight / weight.sum()

    def pair(self, voter: str, done: Mapping[str, str]) -> Pair | None:
        """The next pair for a voter that has voted on the pairs ``done``; None when none is left."""
        rng = numpy_rng(key(self.seed, f"arena/{voter}"), "pair", len(done))
        left_over = {suite: weight.ravel().copy() for suite, weight in self.weights.items()}
        while left_over:
            suite = list(left_over)[int(rng.integers(len(left_over)))]
            chances = left_over[suite]
            chosen = int(rng.choice(len(chances), p=chances / chances.sum()))
            left, right = (self.field.entrants[self.names[i]] for i in divmod(chosen, len(self.names)))
            found = [(key(self.seed, f"arena/{voter}/{pair.id}"), pair) for pair in self._pairs(suite, left, right) if pair.id not in done]
            if found:
                pair = min(found, key=lambda entry: (self.seen[entry[1].id], entry[0]))[1]
                return pair.swapped() if rng.integers(2) else pair
            chances[chosen] = 0.0
            if not chances.any():
                del left_over[suite]
        return None

    def _pairs(self, suite: str, left: Entrant, right: Entrant) -> list[Pair]:
        return [Pair(task, left, right) for task in self.field.tasks.values() if task.suite == suite and _meet(left, right, task.id)]

    def _shared(self, suite: str) -> Array:
        """1 where (i < j) have a pair of this suite."""
        shared = np.zeros((len(self.names), len(self.names)))
        for i, j in itertools.combinations(range(len(self.names)), 2):
            shared[i, j] = bool(self._pairs(suite, self.field.entrants[self.names[i]], self.field.entrants[self.names[j]]))
        return shared

    def _standing(self, votes: Sequence[Comparison]) -> tuple[Array, Array]:
        """(votes, expected scores) of every two entrants, both (n, n)."""
        wins = wins_by_prompt(self.names, votes).sum(axis=0)
        strengths = fit(wins)
        return wins + wins.T, 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))


def _meet(left: Entrant, right: Entrant, task: str) -> bool:
    one, other = left.pictures.get(task), right.pictures.get(task)
    return one is not None and other is not None and one.sha256 != other.sha256


def _shows(field: Field, entrant: str, task: str, sha256: str) -> bool:
    picture = field.entrants[entrant].pictures.get(task) if entrant in field.entrants else None
    return picture is not None and picture.sha256 == sha256
