"""Judgements of pictures, and the preference pairs that the world makes: it knows which picture is the better one (report section 4.2)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from qi2.core.rng import numpy_rng
from qi2.data.world.captions import captions
from qi2.data.world.degrade import degrade
from qi2.data.world.edits import EDIT_KINDS, sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import TINY_KINDS
from qi2.rewards.config import NEEDS

ATTEMPTS = 8  # at drawing two bad pictures that differ
_ONE_GOOD = ("aesthetic", "portrait")  # rewards that compare pictures of different scenes, because they do not look at the prompt


@dataclass(frozen=True)
class Judgement:
    """What was said of two pictures for a prompt, or of one.

    label: of two, 1 where the first is preferred, -1 where the second is, 0 where neither is; of one, its score. sources: of an edit,
    the pictures that were given, the first of which is edited. truth: the label without noise, where that is known. group: what never
    stands on both sides of a split; by default the prompt.
    """

    prompt: str
    pictures: tuple[Image.Image, ...]
    label: float
    sources: tuple[Image.Image, ...] = ()
    truth: float | None = None
    group: str = ""


@dataclass(frozen=True)
class Judgements:
    """``count`` judgements by index. ``origin``: annotated, images or world."""

    count: int
    get: Callable[[int], Judgement]
    origin: str


@dataclass(frozen=True)
class WorldPairs:
    """Pairs of random scenes and edits of a split ("train" shows nothing held out), kinds in turn, by index.

    Both dimensions of edits meet the same edits in the same order. ``noise`` is the share of decided pairs whose label is turned round,
    ``equal`` that of pairs whose pictures are equally good: two good ones of two scenes, or two results for one prompt that are both wrong.
    """

    dimension: str
    split: str
    size: int
    seed: int
    noise: float = 0.0
    equal: float = 0.0

    def pairs(self, count: int) -> Judgements:
        """The first ``count``."""
        return Judgements(count, self.get, "world")

    def get(self, index: int) -> Judgement:
        """One pair; where it is decided, the first picture is the truly better one."""
        drawn = self._edit(index) if NEEDS[self.dimension].source else self._scene(index)
        if self._draw("/equal", index).random() < self.equal:
            pictures = (drawn.good, self._other_good(index)) if self.dimension in _ONE_GOOD else drawn.two_bad()
            return Judgement(drawn.prompt, pictures, 0, drawn.sources, 0)
        label = -1 if self._draw("/noise", index).random() < self.noise else 1
        return Judgement(drawn.prompt, (drawn.good, drawn.bad), label, drawn.sources, 1)

    def _scene(self, index: int) -> "_Drawn":
        draw = self._draw("", index)
        scene = sample_scene(draw, self._kind(index), self.split)
        prompt = captions(scene, draw, 1)[0]
        return _Drawn(prompt, (), *degrade(scene, draw, self.dimension, self.size), lambda: degrade(scene, draw, self.dimension, self.size)[1])

    def _edit(self, index: int) -> "_Drawn":
        edit = sample_edit(numpy_rng(self.seed, f"rewards/edit/{self.split}", index), EDIT_KINDS[index % len(EDIT_KINDS)], self.split)
        draw, sources = self._draw("", index), tuple(render(scene, self.size) for scene in edit.references)
        return _Drawn(edit.instruction, sources, *degrade(edit, draw, self.dimension, self.size), lambda: degrade(edit, draw, self.dimension, self.size)[1])

    def _other_good(self, index: int) -> Image.Image:
        return render(sample_scene(self._draw("/other", index), self._kind(index), self.split), self.size)

    def _kind(self, index: int) -> str:
        return "portrait" if self.dimension == "portrait" else TINY_KINDS[index % len(TINY_KINDS)]

    def _draw(self, purpose: str, index: int) -> np.random.Generator:
        return numpy_rng(self.seed, f"rewards/{self.dimension}/{self.split}{purpose}", index)


@dataclass(frozen=True)
class _Drawn:
    """A prompt with a good and a bad picture, and what draws another bad one."""

    prompt: str
    sources: tuple[Image.Image, ...]
    good: Image.Image
    bad: Image.Image
    worse: Callable[[], Image.Image]

    def two_bad(self) -> tuple[Image.Image, Image.Image]:
        """Different ones where there are several."""
        others = (self.worse() for _ in range(ATTEMPTS))
        return self.bad, next((other for other in others if other != self.bad), self.bad)
