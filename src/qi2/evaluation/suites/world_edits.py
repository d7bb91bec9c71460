"""The shipped editing suites of the procedural world: every kind of edit, one subject kept, and several references, on held-out combinations.

A pure function of the seed, as `world_prompts`. A row carries scenes, not pictures: its references are drawn when they are needed, and its target and
region are what the exact checkers compare with (`qi2.evaluation.scorers.world_judge`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qi2.core.rng import numpy_rng
from qi2.data.world.edits import ALL_EDIT_KINDS, Edit, sample_edit
from qi2.data.world.palette import BACKGROUNDS, place
from qi2.data.world.sample import choose, different_objects, some_cells
from qi2.data.world.scene import Object, Scene
from qi2.data.world.split import is_heldout
from qi2.evaluation.suites.world_prompts import SEED, SPLIT, Line

Keep = list[dict[str, str]]
GRID = (2, 2)
CELLS = ((0, 0), (0, 1), (1, 0), (1, 1))
IDENTITY = {"new_background": "background", "new_place": "move", "new_company": "add", "new_scene": "reference", "two_views": "subject"}
REFERENCES = {"two_added": "combine", "two_gathered": "gather", "style": "style_transfer"}
THREE = (
    "draw the object of the first image at the {a}, the object of the second image at the {b} and the object of the third image at the {c} on {color}",
    "a {color} background with the object of the first image at the {a}, the object of the second image at the {b} and the object of the third at the {c}",
    "put the first object at the {a}, the second object at the {b} and the third object at the {c} on a {color} background",
)


def editing(each: int = 8) -> list[Line]:
    """``each`` rows of every kind of edit; the category is the kind."""
    return [line for kind in ALL_EDIT_KINDS for line in _lines(kind, _sampled(kind), each)]


def identity(each: int = 12) -> list[Line]:
    """``each`` rows per way of showing a subject anew: the reference's object, and a word beside it, must stay what they are."""
    return [line for category, kind in IDENTITY.items() for line in _lines(category, _sampled(kind, least=1), each, subjects)]


def references(each: int = 12) -> list[Line]:
    """``each`` rows per way of joining pictures: two put together, two and three in a new picture, and the background of one under the other."""
    joined = [line for category, kind in REFERENCES.items() for line in _lines(category, _sampled(kind), each, subjects)]
    return joined + _lines("three_gathered", _three, each, subjects)


def subjects(edit: Edit) -> Keep:
    """What an edit's target has from its references: objects and words that are not the edit's own, or, for a transfer, the style."""
    if edit.kind == "style_transfer":
        return [{"background": edit.target.background, "texture": edit.target.texture}]
    given = {item.combo for scene in edit.references for item in scene.objects}
    kept: Keep = [{"color": item.color, "shape": item.shape} for item in edit.target.objects if item.combo in given]
    words = {word.text for scene in edit.references for word in scene.words}
    return kept + [{"word": word.text} for word in edit.target.words if word.text in words]


def _sampled(kind: str, least: int = 0) -> Callable[[np.random.Generator], Edit]:
    """Draws an edit of a kind whose first reference shows at least so many objects."""

    def draw(rng: np.random.Generator) -> Edit:
        while len((edit := sample_edit(rng, kind, SPLIT)).references[0].objects) < least:
            continue
        return edit

    return draw


def _three(rng: np.random.Generator) -> Edit:
    """One object each of three pictures, in a new one: an edit that training never has."""
    while True:
        items = different_objects(rng, some_cells(rng, CELLS, 3))
        scenes = tuple(Scene("one", GRID, choose(rng, tuple(BACKGROUNDS)), (_at(item, choose(rng, CELLS)),)) for item in items)
        free = [color for color in BACKGROUNDS if color not in {scene.background for scene in scenes}]
        color = choose(rng, free)
        target = Scene("many", GRID, color, tuple(sorted(items, key=lambda item: item.cell)))
        slots = {name: place(*item.cell, GRID) for name, item in zip("abc", items, strict=True)} | {"color": color}
        if is_heldout(target):
            return Edit("three", scenes, target, choose(rng, THREE).format(**slots), "all", tuple(slots.items()))


def _at(item: Object, cell: tuple[int, int]) -> Object:
    return Object(item.shape, item.color, *cell)


def _lines(category: str, draw: Callable[[np.random.Generator], Edit], each: int, keep: Callable[[Edit], Keep] | None = None) -> list[Line]:
    rows: dict[Any, Line] = {}
    for index in range(each * 50):
        edit = draw(numpy_rng(SEED, f"suites/edits/{category}", index))
        seen = edit.references, edit.target
        if seen not in rows:
            rows[seen] = {"id": f"{category}-{len(rows)}", "category": category, **_row(edit), **({"keep": keep(edit)} if keep else {})}
        if len(rows) == each:
            break
    return list(rows.values())


def _row(edit: Edit) -> Line:
    region: str | Sequence[Sequence[int]] = edit.region if isinstance(edit.region, str) else [list(cell) for cell in edit.region]
    scenes = [{"world": scene.to_dict()} for scene in edit.references]
    return {"prompt": edit.instruction, "references": scenes, "target": edit.target.to_dict(), "region": region}
