"""Preference pairs, and the ones that the world makes: it knows which picture is the better one (report section 4.2)."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from qi2.core.rng import numpy_rng
from qi2.data.world.captions import captions
from qi2.data.world.degrade import degrade
from qi2.data.world.edits import EDIT_KINDS, sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import TINY_KINDS
from qi2.rewards.config import NEEDS


@dataclass(frozen=True)
class Pair:
    """A better and a worse picture for a prompt; for an edit with its source pictures, the first of which is edited."""

    prompt: str
    better: Image.Image
    worse: Image.Image
    sources: tuple[Image.Image, ...] = ()


@dataclass(frozen=True)
class PairSet:
    """``count`` pairs by index. ``origin``: annotated, images or world."""

    count: int
    pair: Callable[[int], Pair]
    origin: str


def world_pairs(dimension: str, split: str, count: int, size: int, seed: int) -> PairSet:
    """Pairs of random scenes and edits of a split ("train" shows nothing held out), kinds in turn.

    Both dimensions of edits meet the same edits in the same order.
    """
    make = _edit_pair if NEEDS[dimension].source else _scene_pair
    return PairSet(count, lambda index: make(dimension, split, index, size, seed), "world")


def _scene_pair(dimension: str, split: str, index: int, size: int, seed: int) -> Pair:
    rng = numpy_rng(seed, f"rewards/{dimension}/{split}", index)
    kind = "portrait" if dimension == "portrait" else TINY_KINDS[index % len(TINY_KINDS)]
    scene = sample_scene(rng, kind, split)
    return Pair(captions(scene, rng, 1)[0], *degrade(scene, rng, dimension, size))


def _edit_pair(dimension: str, split: str, index: int, size: int, seed: int) -> Pair:
    edit = sample_edit(numpy_rng(seed, f"rewards/edit/{split}", index), EDIT_KINDS[index % len(EDIT_KINDS)], split)
    pictures = degrade(edit, numpy_rng(seed, f"rewards/{dimension}/{split}", index), dimension, size)
    return Pair(edit.instruction, *pictures, tuple(render(scene, size) for scene in edit.references))
