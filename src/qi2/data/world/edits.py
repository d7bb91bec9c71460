"""Editing examples: reference scene(s), instruction, target scene, and the region that alone may change."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qi2.core.errors import QI2Error
from qi2.data.world.captions import name
from qi2.data.world.more_edits import MORE_DRAWS, MORE_PHRASES, Parts
from qi2.data.world.palette import BACKGROUNDS, COLORS, place
from qi2.data.world.sample import choose, random_object, random_word, sample_scene
from qi2.data.world.scene import Cell, Object, Region, Scene
from qi2.data.world.split import is_heldout

Rng = np.random.Generator

PHRASES: dict[str, tuple[str, ...]] = {
    "recolor": (
        "make the {a} {color}",
        "change the colour of the {a} to {color}",
        "change the {a} to {color}",
        "the {a} is now {color}",
        "now make the {a} {color}",
    ),
    "move": (
        "move the {a} to the {to}",
        "put the {a} at the {to}",
        "the {a} is now at the {to}",
        "take the {a} and put it at the {to}",
        "move the {a} from the {at} to the {to}",
    ),
    "add": (
        "add a {a} at the {to}",
        "put a {a} at the {to}",
        "draw a {a} at the {to}",
        "add to the image a {a} at the {to}",
        "at the {to} add a {a}",
    ),
    "remove": (
        "remove the {a}",
        "delete the {a}",
        "take away the {a}",
        "remove the {a} from the image",
        "remove the {a} at the {at}",
    ),
    "background": (
        "change the background to {color}",
        "make the background {color}",
        "the background is now {color}",
        "replace the background with {color}",
        "change the colour of the background to {color}",
    ),
    "word": (
        "replace the word {a} with {b}",
        "change the word {a} to {b}",
        "the word {a} is now {b}",
        "the word is now {b}",
        "replace {a} with {b}",
    ),
    "combine": (
        "add the object of the second image at the {to}",
        "put the object of the second image at the {to}",
        "put the object from the second image into the first image at the {to}",
        "take the object of the second image and add it at the {to}",
        "at the {to} add the object of the second image",
    ),
}
EDIT_KINDS = tuple(PHRASES)
MORE_EDIT_KINDS = tuple(MORE_PHRASES)  # drawn only where asked for by name
ALL_EDIT_KINDS = EDIT_KINDS + MORE_EDIT_KINDS
FAMILIES: dict[str, str] = {
    "recolor": "attribute",
    "move": "attribute",
    "add": "attribute",
    "remove": "attribute",
    "background": "background",
    "word": "text",
    "combine": "composition",
    "style": "style",
    "restore": "restoration",
    "colour": "structure",
    "outline": "structure",
    "reference": "reference",
    "gather": "reference",
    "subject": "subject",
    "style_transfer": "style_transfer",
}  # edit kind to the report's family (2.1)


@dataclass(frozen=True)
class Edit:
    """One editing example. ``region``: the cells that may change, ``background`` or ``all``; ``slots`` fill the other phrasings."""

    kind: str
    references: tuple[Scene, ...]
    target: Scene
    instruction: str
    region: Region
    slots: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> str:
        """Compact JSON text."""
        scenes = {"references": [scene.to_dict() for scene in self.references], "target": self.target.to_dict()}
        values = {"kind": self.kind, "instruction": self.instruction, "region": self.region, "slots": dict(self.slots)} | scenes
        return json.dumps(values, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "Edit":
        """Inverse of ``to_json``."""
        values: dict[str, Any] = json.loads(text)
        region = values["region"]
        return Edit(
            values["kind"],
            tuple(Scene.from_dict(item) for item in values["references"]),
            Scene.from_dict(values["target"]),
            values["instruction"],
            region if isinstance(region, str) else tuple((row, col) for row, col in region),
            tuple(values["slots"].items()),
        )


def sample_edit(rng: Rng, kind: str | None = None, split: str = "train") -> Edit:
    """A random edit of a kind (or of any of EDIT_KINDS).

    ``train`` shows nothing held out in any of its pictures; the target of ``heldout`` does, or what it outlines; ``any`` ignores
    the split.
    """
    kind = kind or choose(rng, EDIT_KINDS)
    if kind not in _DRAW:
        raise QI2Error(f"no edit kind {kind!r}; kinds are {', '.join(ALL_EDIT_KINDS)}")
    while True:
        references, target, region, slots = _DRAW[kind](rng)
        shown = (*references, target) if split == "train" or target.outlined else (target,)
        heldout = any(is_heldout(scene) for scene in shown)
        if split == "any" or heldout == (split == "heldout"):
            return Edit(kind, references, target, choose(rng, _PHRASES[kind]).format(**slots), region, tuple(slots.items()))


def instructions(edit: Edit, rng: Rng, n: int = 1) -> list[str]:
    """``n`` phrasings of the instruction, as different as the number of phrasings allows."""
    templates = _PHRASES[edit.kind]
    order: list[int] = []
    while len(order) < n:
        order += [int(i) for i in rng.permutation(len(templates))]
    return [templates[i].format(**dict(edit.slots)) for i in order[:n]]


def all_instructions(edit: Edit) -> list[str]:
    """The instruction in every phrasing."""
    return [template.format(**dict(edit.slots)) for template in _PHRASES[edit.kind]]


def _source(rng: Rng, *kinds: str, least: int = 0, most: int = 2) -> Scene:
    """A scene of one of the kinds with ``least`` to ``most`` objects."""
    while True:
        scene = sample_scene(rng, choose(rng, kinds), "any")
        if least <= len(scene.objects) <= most:
            return scene


def _open_source(rng: Rng) -> Scene:
    """A scene that one more object fits into: one object, or a word alone."""
    return sample_scene(rng, "one", "any") if rng.random() < 0.5 else _source(rng, "text", most=0)


def _swap(scene: Scene, old: Object, new: Object) -> Scene:
    return scene.with_objects(*(new if item == old else item for item in scene.objects))


def _new_object(rng: Rng, scene: Scene, cell: Cell) -> Object:
    """An object that differs from all in the scene."""
    while (item := random_object(rng, cell)).combo in {other.combo for other in scene.objects}:
        continue
    return item


def _recolor(rng: Rng) -> Parts:
    source = _source(rng, "one", "two", "text", least=1)
    item = choose(rng, source.objects)
    taken = {other.color for other in source.objects if other.shape == item.shape}
    color = choose(rng, [color for color in COLORS if color not in taken])
    target = _swap(source, item, replace(item, color=color))
    return (source,), target, (item.cell,), {"a": name(item), "color": color}


def _move(rng: Rng) -> Parts:
    source = _source(rng, "one", "two", "text", least=1)
    item = choose(rng, source.objects)
    cell = choose(rng, source.free())
    target = _swap(source, item, replace(item, row=cell[0], col=cell[1]))
    slots = {"a": name(item), "at": place(*item.cell, source.grid), "to": place(*cell, source.grid)}
    return (source,), target, (item.cell, cell), slots


def _add(rng: Rng) -> Parts:
    source = _open_source(rng)
    cell = choose(rng, source.free())
    item = _new_object(rng, source, cell)
    slots = {"a": name(item), "to": place(*cell, source.grid)}
    return (source,), source.with_objects(*source.objects, item), (cell,), slots


def _remove(rng: Rng) -> Parts:
    source = _source(rng, "two", "text", least=1)
    item = choose(rng, source.objects)
    target = source.with_objects(*(other for other in source.objects if other != item))
    return (source,), target, (item.cell,), {"a": name(item), "at": place(*item.cell, source.grid)}


def _background(rng: Rng) -> Parts:
    source = _source(rng, "one", "two", "text")
    color = choose(rng, [color for color in BACKGROUNDS if color != source.background])
    return (source,), replace(source, background=color), "background", {"color": color}


def _word(rng: Rng) -> Parts:
    source = sample_scene(rng, "text", "any")
    word = source.words[0]
    text = random_word(rng)
    while text == word.text:
        text = random_word(rng)
    target = replace(source, words=(replace(word, text=text),))
    changed = tuple(cell for cell, old, new in zip(word.cells(), word.text, text, strict=True) if old != new)
    return (source,), target, changed, {"a": word.text, "b": text}


def _combine(rng: Rng) -> Parts:
    first, second = _open_source(rng), sample_scene(rng, "one", "any")
    cell = choose(rng, first.free())
    given = _new_object(rng, first, second.objects[0].cell)
    second = second.with_objects(given)
    target = first.with_objects(*first.objects, replace(given, row=cell[0], col=cell[1]))
    return (first, second), target, (cell,), {"to": place(*cell, first.grid)}


_DRAW: dict[str, Callable[[Rng], Parts]] = {
    "recolor": _recolor,
    "move": _move,
    "add": _add,
    "remove": _remove,
    "background": _background,
    "word": _word,
    "combine": _combine,
    **MORE_DRAWS,
}
_PHRASES = PHRASES | MORE_PHRASES
