"""Random scenes of a kind and a split, and the fixed prompts of the evaluation."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.world.captions import captions
from qi2.data.world.palette import (
    ALPHABET,
    BACKGROUNDS,
    COLORS,
    EXPRESSIONS,
    HAIR,
    LAYOUT_WORDS,
    RELATIONS,
    SHAPES,
    SKIN,
    TEXTURES,
)
from qi2.data.world.scene import TINY_KINDS, Cell, Layout, Object, Portrait, Scene, Word
from qi2.data.world.split import is_heldout

Rng = np.random.Generator
T = TypeVar("T")
_COLORS, _BACKGROUNDS = tuple(COLORS), tuple(BACKGROUNDS)
SPLITS = ("train", "heldout", "any")


def choose(rng: Rng, options: Sequence[T]) -> T:
    """One of the options, uniformly."""
    return options[int(rng.integers(len(options)))]


def some_cells(rng: Rng, cells: Sequence[Cell], n: int) -> list[Cell]:
    """``n`` different cells in random order."""
    return [cells[int(i)] for i in rng.permutation(len(cells))[:n]]


def random_object(rng: Rng, cell: Cell) -> Object:
    """A random colour and shape in a cell."""
    return Object(choose(rng, SHAPES), choose(rng, _COLORS), *cell)


def random_word(rng: Rng) -> str:
    """Two letters of the alphabet."""
    return choose(rng, ALPHABET) + choose(rng, ALPHABET)


def sample_scene(rng: Rng, kind: str, split: str = "train", grid: Cell = (2, 2)) -> Scene:
    """A random scene; ``train`` has nothing that is held out, ``heldout`` has at least one such thing, ``any`` ignores the split."""
    if kind not in _DRAW or split not in SPLITS:
        raise QI2Error(f"no kind {kind!r} or split {split!r}; kinds are {', '.join(_DRAW)}; splits are {', '.join(SPLITS)}")
    while True:
        scene = _DRAW[kind](rng, grid)
        if split == "any" or is_heldout(scene) == (split == "heldout"):
            return scene


def heldout_prompts(seed: int, n: int, kinds: Sequence[str] = TINY_KINDS, split: str = "heldout", grid: Cell = (2, 2)) -> list[tuple[str, Scene]]:
    """``n`` (caption, scene) pairs in turn over ``kinds``, no scene twice; the same for the same arguments.

    ``split="train"`` gives prompts of known combinations instead, for the comparison. Stops with fewer pairs per kind where
    a kind has no further scene.
    """
    rng = numpy_rng(seed, f"prompts-{split}")
    seen: set[Scene] = set()
    pairs: list[tuple[str, Scene]] = []
    misses = 0
    while len(pairs) < n and misses < 1000:
        scene = sample_scene(rng, kinds[len(pairs) % len(kinds)], split, grid)
        misses = misses + 1 if scene in seen else 0
        if scene not in seen:
            seen.add(scene)
            pairs.append((captions(scene, rng, 1)[0], scene))
    return pairs


def _cells(grid: Cell) -> list[Cell]:
    return [(row, col) for row in range(grid[0]) for col in range(grid[1])]


def _background(rng: Rng) -> str:
    return choose(rng, _BACKGROUNDS)


def different_objects(rng: Rng, cells: Sequence[Cell]) -> tuple[Object, ...]:
    """Objects in the given cells, no two with the same colour and shape."""
    items: dict[tuple[str, str], Object] = {}
    for cell in cells:
        item = random_object(rng, cell)
        while item.combo in items:
            item = random_object(rng, cell)
        items[item.combo] = item
    return tuple(items.values())


def _one(rng: Rng, grid: Cell) -> Scene:
    return Scene("one", grid, _background(rng), (random_object(rng, choose(rng, _cells(grid))),))


def _two(rng: Rng, grid: Cell) -> Scene:
    return Scene("two", grid, _background(rng), different_objects(rng, sorted(some_cells(rng, _cells(grid), 2))))


def _count(rng: Rng, grid: Cell) -> Scene:
    item = random_object(rng, (0, 0))
    cells = sorted(some_cells(rng, _cells(grid), int(rng.integers(2, 5))))
    return Scene("count", grid, _background(rng), tuple(Object(item.shape, item.color, *cell) for cell in cells))


def _relation(rng: Rng, grid: Cell) -> Scene:
    """Two different objects in neighbouring cells of one row or one column."""
    relation = choose(rng, tuple(RELATIONS))
    step_row, step_col = RELATIONS[relation]
    second = choose(rng, [cell for cell in _cells(grid) if 0 <= cell[0] + step_row < grid[0] and 0 <= cell[1] + step_col < grid[1]])
    first = (second[0] + step_row, second[1] + step_col)
    return Scene("relation", grid, _background(rng), different_objects(rng, (first, second)), relation=relation)


def _text(rng: Rng, grid: Cell) -> Scene:
    """A two-letter word in one row; in two of three pictures one object in another row."""
    row = int(rng.integers(grid[0]))
    others = [cell for cell in _cells(grid) if cell[0] != row]
    items = (random_object(rng, choose(rng, others)),) if rng.random() < 2 / 3 else ()
    return Scene("text", grid, _background(rng), items, (Word(random_word(rng), row),))


def _many(rng: Rng, grid: Cell) -> Scene:
    """Three or four different objects on three by three cells, on a plain or textured background."""
    cells = sorted(some_cells(rng, _cells((3, 3)), int(rng.integers(3, 5))))
    return Scene("many", (3, 3), _background(rng), different_objects(rng, cells), texture=choose(rng, TEXTURES))


def _portrait(rng: Rng, grid: Cell) -> Scene:
    hair, skin, glasses = choose(rng, tuple(HAIR)), choose(rng, tuple(SKIN)), bool(rng.integers(2))
    face = Portrait(hair, skin, glasses, choose(rng, EXPRESSIONS), choose(rng, _COLORS))
    return Scene("portrait", (1, 1), _background(rng), portrait=face)


def _layout(rng: Rng, grid: Cell) -> Scene:
    words = [LAYOUT_WORDS[int(i)] for i in rng.permutation(len(LAYOUT_WORDS))[: int(rng.integers(2, 5))]]
    return Scene("layout", (1, 1), _background(rng), layout=Layout(words[0], tuple(words[1:])))


_DRAW: dict[str, Callable[[Rng, Cell], Scene]] = {
    "one": _one,
    "two": _two,
    "count": _count,
    "relation": _relation,
    "text": _text,
    "many": _many,
    "portrait": _portrait,
    "layout": _layout,
}
