"""Edits of the report's other families (2.1): style, restoration, structure, and new pictures made from references.

They are drawn only where ``data.edit_mix`` names them. Every target follows from the references and the instruction alone.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qi2.data.world.captions import TEXTURED, name
from qi2.data.world.damage import hole_cell
from qi2.data.world.palette import BACKGROUNDS, DAMAGES, OUTLINE, TEXTURES, place
from qi2.data.world.sample import choose, different_objects, sample_scene, some_cells
from qi2.data.world.scene import Cell, Object, Region, Scene

Rng = np.random.Generator
Parts = tuple[tuple[Scene, ...], Scene, Region, dict[str, str]]  # references, target, region, slots of the instruction

GRID = (2, 2)
CELLS: tuple[Cell, ...] = ((0, 0), (0, 1), (1, 0), (1, 1))
FLAWS = {"blur": "blur", "noise": "noise", "small": "coarse pixels", "hole": "hole"}

MORE_PHRASES: dict[str, tuple[str, ...]] = {
    "style": (
        "make the background {style}",
        "change the background to {style} {color}",
        "the background is now {style}",
        "replace the background with a {style} background",
        "draw the image on a {style} background",
    ),
    "restore": (
        "remove the {flaw} from the image",
        "restore the image without the {flaw}",
        "draw the image again without the {flaw}",
        "take away the {flaw}",
        "restore the image and remove the {flaw}",
    ),
    "colour": (
        "turn the outlines into {items} on a {color} background",
        "draw {items} along the outlines on a {color} background",
        "fill the outlines with {items} and make the background {color}",
        "change the outlines to {items} on {color}",
        "make the outlines {items} and the background {color}",
    ),
    "outline": (
        "turn the image into black outlines on white",
        "draw the outlines of the image in black on white",
        "draw only the outlines of the image on a white background",
        "replace the image with black outlines on a white background",
        "change the image to an outline drawing on white",
    ),
    "reference": (
        "draw the object of the image on a {color} background at the {to}",
        "a {color} background with the object of the image at the {to}",
        "take the object of the image and draw it at the {to} on {color}",
        "at the {to} the object of the image on a {color} background",
        "make an image of the object at the {to} on a {color} background",
    ),
    "gather": (
        "draw the object of the first image at the {to} and the object of the second image at the {tob} on a {color} background",
        "a {color} background with the object of the first image at the {to} and the object of the second image at the {tob}",
        "put the object of the second image at the {tob} and the object of the first image at the {to} on {color}",
        "at the {to} the object of the first image and at the {tob} the object of the second image on a {color} background",
        "make an image of the first object at the {to} and the second object at the {tob} on {color}",
    ),
    "subject": (
        "draw the object of both images at the {to} with a {b} at the {tob} on a {color} background",
        "a {color} background with the object of both images at the {to} and a {b} at the {tob}",
        "put the object of both images at the {to} and a {b} at the {tob} on {color}",
        "at the {to} the object of both images and at the {tob} a {b} on a {color} background",
        "make an image of the object of both images at the {to} and a {b} at the {tob} on {color}",
    ),
    "style_transfer": (
        "draw the first image on the background of the second image",
        "replace the background of the first image with the background of the second image",
        "put the background of the second image into the first image",
        "take the background of the second image and use it in the first image",
        "change the background of the first image to that of the second image",
    ),
}


def _scene(rng: Rng, *kinds: str) -> Scene:
    return sample_scene(rng, choose(rng, kinds), "any")


def _other_background(rng: Rng, *scenes: Scene) -> str:
    return choose(rng, [color for color in BACKGROUNDS if color not in {scene.background for scene in scenes}])


def _at(item: Object, cell: Cell) -> Object:
    return replace(item, row=cell[0], col=cell[1])


def _outlined(scene: Scene) -> Scene:
    """The black outlines of the scene's objects, and its words, on white."""
    items = tuple(replace(item, shape=item.shape + OUTLINE, color="black") for item in scene.objects)
    return replace(scene, background="white", objects=items)


def _shapes(rng: Rng) -> Scene:
    """A scene with objects of different shapes, so that an outline says which is meant."""
    while True:
        scene = _scene(rng, "one", "two", "text")
        if scene.objects and len({item.shape for item in scene.objects}) == len(scene.objects):
            return scene


def _style(rng: Rng) -> Parts:
    source = _scene(rng, "one", "two", "text")
    target = replace(source, texture=choose(rng, TEXTURES[1:]))
    return (source,), target, "background", {"style": TEXTURED[target.texture].strip(), "color": target.background}


def _restore(rng: Rng) -> Parts:
    target = _scene(rng, "one", "two", "text")
    source = replace(target, damage=choose(rng, DAMAGES))
    region: Region = (hole_cell(source),) if source.damage == "hole" else "all"
    return (source,), target, region, {"flaw": FLAWS[source.damage]}


def _colour(rng: Rng) -> Parts:
    target = _shapes(rng)
    items = " and ".join(f"a {name(item)}" for item in target.objects)
    return (_outlined(target),), target, "all", {"items": items, "color": target.background}


def _outline(rng: Rng) -> Parts:
    source = _shapes(rng)
    return (source,), _outlined(source), "all", {}


def _reference(rng: Rng) -> Parts:
    source = _scene(rng, "one")
    cell, color = choose(rng, CELLS), _other_background(rng, source)
    target = Scene("one", GRID, color, (_at(source.objects[0], cell),))
    return (source,), target, "all", {"to": place(*cell, GRID), "color": color}


def _gather(rng: Rng) -> Parts:
    """One object each of two pictures, in a new one."""
    first, second = _scene(rng, "one"), _scene(rng, "one")
    while second.objects[0].combo == first.objects[0].combo:
        second = _scene(rng, "one")
    return _new_scene(rng, (first, second), first.objects[0], second.objects[0])


def _subject(rng: Rng) -> Parts:
    """Two pictures show the same object, each with another one beside it; a new picture shows it with a third."""
    subject, *others = different_objects(rng, some_cells(rng, CELLS, 4))
    references = tuple(_beside(rng, subject, other) for other in others[:2])
    references, target, region, slots = _new_scene(rng, references, subject, others[2])
    return references, target, region, slots | {"b": name(others[2])}


def _beside(rng: Rng, subject: Object, other: Object) -> Scene:
    return _pair(choose(rng, tuple(BACKGROUNDS)), subject, other, some_cells(rng, CELLS, 2))


def _new_scene(rng: Rng, references: tuple[Scene, ...], one: Object, other: Object) -> Parts:
    """Two objects at new places on a background that no reference has."""
    color = _other_background(rng, *references)
    to, tob = some_cells(rng, CELLS, 2)
    return references, _pair(color, one, other, [to, tob]), "all", {"to": place(*to, GRID), "tob": place(*tob, GRID), "color": color}


def _pair(color: str, one: Object, other: Object, cells: list[Cell]) -> Scene:
    return Scene("two", GRID, color, tuple(sorted((_at(one, cells[0]), _at(other, cells[1])), key=lambda item: item.cell)))


def _style_transfer(rng: Rng) -> Parts:
    first = _scene(rng, "one", "two", "text")
    second = replace(_scene(rng, "one", "two"), texture=choose(rng, TEXTURES[1:]))
    return (first, second), replace(first, background=second.background, texture=second.texture), "background", {}


MORE_DRAWS: dict[str, Callable[[Rng], Parts]] = {
    "style": _style,
    "restore": _restore,
    "colour": _colour,
    "outline": _outline,
    "reference": _reference,
    "gather": _gather,
    "subject": _subject,
    "style_transfer": _style_transfer,
}
