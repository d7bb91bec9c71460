"""Scenes that are wrong in exactly one way: the hard negatives of reward models, wrong captions and tests."""

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from qi2.core.errors import QI2Error
from qi2.data.world.checker import Reading, compare
from qi2.data.world.palette import ALPHABET, BACKGROUNDS, COLORS, EXPRESSIONS, HAIR, LAYOUT_WORDS, SHAPES, SKIN
from qi2.data.world.sample import choose, random_object
from qi2.data.world.scene import Cell, Object, Scene
from qi2.data.world.split import is_heldout

Rng = np.random.Generator
ATTEMPTS = 200


def wrong_scene(scene: Scene, rng: Rng, cells: Collection[Cell] | None = None, background: bool = True) -> tuple[str, Scene]:
    """(what is wrong, the scene with that change), of the same kind.

    ``cells`` limits the change to these cells, ``background`` says whether the background may be what changes. The result never
    fulfils the caption of ``scene``, even where that leaves positions open, and a scene without anything held out stays so: else a
    reward model would learn that what is held out is always wrong. Raises QI2Error when no such change exists.
    """
    names = _FACE if scene.portrait else _PAGE if scene.layout else _CELLS
    options = [name for name in names if background or name != "background"]
    for _ in range(ATTEMPTS if options else 0):
        name = choose(rng, options)
        other = names[name](scene, rng, cells)
        if other is not None and not fulfils(other, scene) and (is_heldout(scene) or not is_heldout(other)):
            return name, other
    raise QI2Error(f"nothing can be made wrong in the cells {cells} of {scene.to_json()}")


def fulfils(shown: Scene, wanted: Scene) -> bool:
    """Whether a picture of ``shown`` is right for the captions of ``wanted``."""
    if shown.portrait or shown.layout or shown.texture != wanted.texture:
        return shown == wanted
    drawn = shown.occupied()
    cells = {(row, col): drawn.get((row, col)) for row in range(shown.grid[0]) for col in range(shown.grid[1])}
    return compare(Reading(shown.background, cells), wanted)["all"]


def _items(scene: Scene, cells: Collection[Cell] | None) -> list[Object]:
    return [item for item in scene.objects if cells is None or item.cell in cells]


def _free(scene: Scene, cells: Collection[Cell] | None) -> list[Cell]:
    return [cell for cell in scene.free() if cells is None or cell in cells]


def _swap(scene: Scene, old: Object, *new: Object) -> Scene:
    return replace(scene, objects=tuple(part for item in scene.objects for part in (new if item == old else (item,))))


def _color(scene: Scene, rng: Rng, cells: Collection[Cell] | None) -> Scene | None:
    if not (items := _items(scene, cells)):
        return None
    item = choose(rng, items)
    return _swap(scene, item, replace(item, color=choose(rng, [c for c in COLORS if c != item.color])))


def _shape(scene: Scene, rng: Rng, cells: Collection[Cell] | None) -> Scene | None:
    if not (items := _items(scene, cells)):
        return None
    item = choose(rng, items)
    return _swap(scene, item, replace(item, shape=choose(rng, [s for s in SHAPES if s != item.shape])))


def _position(scene: Scene, rng: Rng, cells: Collection[Cell] | None) -> Scene | None:
    items, free = _items(scene, cells), _free(scene, cells)
    if not items or not free:
        return None
    item, cell = choose(rng, items), choose(rng, free)
    return _swap(scene, item, replace(item, row=cell[0], col=cell[1]))


def _exchange(scene: Scene, rng: Rng, cells: Collection[Cell] | None) -> Scene | None:
    """Two objects swap their places."""
    items = _items(scene, cells)
    if len(items) < 2:
        return None
    first, second = (items[int(i)] for i in rng.permutation(len(items))[:2])
    places = {first: second.cell, second: first.cell}
    moved = [replace(item, row=places.get(item, item.cell)[0], col=places.get(item, item.cell)[1]) for item in scene.objects]
    return replace(scene, objects=tuple(moved))


def _missing(scene: Scene, rng: Rng, cells: Collection[Cell] | None) -> Scene | None:
    items = _items(scene, cells)
    return _swap(scene, choose(rng, items)) if items else None


def _extra(scene: Scene, rng: Rng, cells: Collection[Cell] | None) -> Scene | None:
    free = _free(scene, cells)
    if not free:
        return None
    cell = choose(rng, free)
    item = Object(scene.objects[0].shape, scene.objects[0].color, *cell) if scene.kind == "count" else random_object(rng, cell)
    return replace(scene, objects=(*scene.objects, item))


def _letter(scene: Scene, rng: Rng, cells: Collection[Cell] | None) -> Scene | None:
    places = [(word, i) for word in scene.words for i, cell in enumerate(word.cells()) if cells is None or cell in cells]
    if not places:
        return None
    word, index = choose(rng, places)
    letter = choose(rng, [a for a in ALPHABET if a != word.text[index]])
    other = replace(word, text=word.text[:index] + letter + word.text[index + 1 :])
    return replace(scene, words=tuple(other if w == word else w for w in scene.words))


def _background(scene: Scene, rng: Rng, cells: Collection[Cell] | None) -> Scene | None:
    return replace(scene, background=choose(rng, [b for b in BACKGROUNDS if b != scene.background]))


def _feature(name: str, values: Collection[object]) -> Callable[[Scene, Rng, Collection[Cell] | None], Scene | None]:
    def change(scene: Scene, rng: Rng, cells: Collection[Cell] | None) -> Scene | None:
        assert scene.portrait is not None
        other = choose(rng, [value for value in values if value != getattr(scene.portrait, name)])
        return replace(scene, portrait=replace(scene.portrait, **{name: other}))  # type: ignore[arg-type]

    return change


def _title(scene: Scene, rng: Rng, cells: Collection[Cell] | None) -> Scene | None:
    assert scene.layout is not None
    return replace(scene, layout=replace(scene.layout, title=_other_word(scene, rng)))


def _line(scene: Scene, rng: Rng, cells: Collection[Cell] | None) -> Scene | None:
    assert scene.layout is not None
    lines = list(scene.layout.lines)
    lines[int(rng.integers(len(lines)))] = _other_word(scene, rng)
    return replace(scene, layout=replace(scene.layout, lines=tuple(lines)))


def _other_word(scene: Scene, rng: Rng) -> str:
    assert scene.layout is not None
    return choose(rng, [word for word in LAYOUT_WORDS if word not in (scene.layout.title, *scene.layout.lines)])


Mutation = Callable[[Scene, Rng, Collection[Cell] | None], Scene | None]

_CELLS: dict[str, Mutation] = {
    "color": _color,
    "shape": _shape,
    "position": _position,
    "exchange": _exchange,
    "missing": _missing,
    "extra": _extra,
    "word": _letter,
    "background": _background,
}
_FACE: dict[str, Mutation] = {
    "hair": _feature("hair", HAIR),
    "skin": _feature("skin", SKIN),
    "glasses": _feature("glasses", (False, True)),
    "expression": _feature("expression", EXPRESSIONS),
    "shirt": _feature("shirt", COLORS),
    "background": _background,
}
_PAGE: dict[str, Mutation] = {"title": _title, "line": _line, "background": _background}
