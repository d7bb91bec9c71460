"""What a rewrite is worth: the picture that its user would get shows what was asked for and looks good, and the rules are kept (report section 3.3).

A rewrite that cannot be used falls back to the original prompt, so that no length, keyword or praise is paid for that the picture does not show.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.enhancer.enhance import Enhancer
from qi2.enhancer.painter import CachedPainter, Painter
from qi2.enhancer.request import Rewrite
from qi2.enhancer.triplets import Triplet
from qi2.enhancer.truth import consistency, read_truth

NAMES = ("consistency", "aesthetic", "text")
LEARNED = {"t2i": "alignment", "ti2i": "instruction"}  # who judges consistency where the truth is not known


@dataclass
class Asked:
    """What a reward model reads: the annotation, which says in full what the degraded prompt meant, and the pictures to edit.

    Not the prompt as its user would write it: reward models never read everyday words, and at scale tiny prefer the pictures of short prompts to those
    of full ones when they are asked by the short one (docs/enhancer.md).
    """

    text: str
    sources: Sequence[Image.Image]


@dataclass
class Answer:
    """A picture drawn for a rewrite of what was asked."""

    prompt: Asked
    image: Image.Image


Scorer = Callable[[Sequence[Any]], torch.Tensor]


class Judge:
    """Draws rewrites and judges the pictures; all rewards of a step share them."""

    def __init__(
        self, enhancer: Enhancer, triplets: Sequence[Triplet], painter: Painter, scorers: Mapping[str, Scorer], images: int, seed: int,
        source: Callable[[str], Image.Image],
    ) -> None:  # fmt: skip
        self.enhancer, self.triplets, self.scorers, self.images, self.seed, self.source = enhancer, triplets, scorers, images, seed, source
        self.painter = CachedPainter(painter)
        self._known: tuple[tuple[str, ...], dict[str, list[float | None]]] = ((), {})

    def functions(self, weights: Mapping[str, float]) -> list[Any]:
        """One function for TRL per reward with a weight. Raises QI2Error for an unknown name, or where nobody can judge."""
        if unknown := [name for name in weights if name not in NAMES]:
            raise QI2Error(f"enhancer.rl.rewards: no reward {unknown[0]!r}; choose from {', '.join(NAMES)}")
        if weights.get("aesthetic", 0) > 0 and "aesthetic" not in self.scorers:
            raise QI2Error("enhancer.rl.rewards.aesthetic needs the run's reward models; run stage rewards, or set its weight to 0")
        return [self._function(name) for name, weight in weights.items() if weight > 0]

    def _function(self, name: str) -> Callable[..., list[float | None]]:
        def reward(prompts: list[str], completions: list[str], number: list[int], trainer_state: Any, **_: Any) -> list[float | None]:
            return self(completions, number, trainer_state.global_step)[name]

        reward.__name__ = name
        return reward

    def __call__(self, completions: Sequence[str], numbers: Sequence[int], step: int) -> dict[str, list[float | None]]:
        """Every reward of every completion; ``numbers`` say of which triplet. Rewrites of one prompt are drawn with the same noise."""
        key = (str(step), *map(str, numbers), *completions)
        if self._known[0] != key:
            asked = [self.triplets[i] for i in numbers]
            rewrites = [self.enhancer.judge(triplet.short, reply) for triplet, reply in zip(asked, completions, strict=True)]
            self._known = key, self._judge(asked, rewrites, numbers, step)
        return self._known[1]

    def _judge(self, asked: Sequence[Triplet], rewrites: Sequence[Rewrite], numbers: Sequence[int], step: int) -> dict[str, list[float | None]]:
        pictures, sources = self._draw(asked, rewrites, numbers, step)
        answers = [[Answer(Asked(t.fine, s), picture) for picture in group] for t, s, group in zip(asked, sources, pictures, strict=True)]
        looks: list[float | None] = self._mean("aesthetic", answers) if "aesthetic" in self.scorers else [None for _ in asked]
        return {"consistency": self._consistency(asked, sources, pictures, answers), "aesthetic": looks, "text": [float(not r.fallback) for r in rewrites]}

    def _draw(
        self, asked: Sequence[Triplet], rewrites: Sequence[Rewrite], numbers: Sequence[int], step: int
    ) -> tuple[list[list[Image.Image]], list[list[Image.Image]]]:
        """(pictures of each rewrite, source pictures of each): the original is drawn where the rewrite cannot be used."""
        sources = [[self.source(name) for name in triplet.references] for triplet in asked]
        jobs = [(i, rng.key(self.seed, f"enhancer/noise/{numbers[i]}", step * self.images + k)) for i in range(len(asked)) for k in range(self.images)]
        drawn = self.painter(
            [rewrites[i].text for i, _ in jobs], [asked[i].references for i, _ in jobs], [sources[i] for i, _ in jobs], [noise for _, noise in jobs]
        )
        return [drawn[i * self.images : (i + 1) * self.images] for i in range(len(asked))], sources

    def _consistency(
        self, asked: Sequence[Triplet], sources: Sequence[Sequence[Image.Image]], pictures: Sequence[Sequence[Image.Image]], answers: Sequence[Sequence[Answer]]
    ) -> list[float | None]:
        """By the world's truth where it is known, else by the reward models."""
        found: list[float | None] = []
        for triplet, source, group in zip(asked, sources, pictures, strict=True):
            truth = read_truth(triplet.task, triplet.truth)
            right = [consistency(image, truth, triplet.dropped, source[0] if source else None) for image in group] if truth else []
            found.append(sum(right) / len(right) if right else None)
        for task, scorer in LEARNED.items():
            rows = [i for i, value in enumerate(found) if value is None and asked[i].task == task]
            if rows and scorer not in self.scorers:
                raise QI2Error(f"no truth is known of {asked[rows[0]].short!r}, and the run has no {scorer} reward to judge it; run stage rewards")
            for i, value in zip(rows, self._mean(scorer, [answers[i] for i in rows]) if rows else [], strict=True):
                found[i] = value
        return found

    def _mean(self, scorer: str, answers: Sequence[Sequence[Answer]]) -> list[float | None]:
        scores = self.scorers[scorer]([answer for group in answers for answer in group]).view(len(answers), -1).mean(1)
        return [None if value != value else value for value in scores.tolist()]
