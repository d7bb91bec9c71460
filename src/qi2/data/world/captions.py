"""Captions of a scene in several phrasings, and one canonical description cell by cell.

All words are lower case except the rendered ones (``vocabulary.VOCABULARY`` lists them).
"""

from collections.abc import Sequence

import numpy as np

from qi2.data.world.palette import NUMBERS, half, place
from qi2.data.world.scene import Layout, Object, Portrait, Scene

_ONE = (
    "a {a} at the {pa} on a {bg} background",
    "{a} {pa}, {bg} background",
    "a {bg} background with a {a} at the {pa}",
    "there is a {a} at the {pa}, the background is {bg}",
    "at the {pa} a {a}, {bg} background",
    "an image of a {a} at the {pa} on {bg}",
)
_TWO = (
    "{a} {pa} and {b} {pb}, {bg} background",
    "a {a} at the {pa}, a {b} at the {pb}, {bg} background",
    "a {bg} background with a {a} {pa} and a {b} {pb}",
    "{b} {pb}, {a} {pa}, {bg} background",
    "at the {pa} a {a}, at the {pb} a {b}, on {bg}",
    "an image of {a} {pa} and {b} {pb} on {bg}",
)
_COUNT = (
    "{n} {a}s on a {bg} background",
    "{n} {a}s, {bg} background",
    "there are {n} {a}s on a {bg} background",
    "a {bg} background with {n} {a}s",
    "an image of {n} {a}s on {bg}",
)
_RELATION = (
    "a {a} {rel} a {b} on a {bg} background",
    "{a} {rel} {b}, {bg} background",
    "the {a} is {rel} the {b}, {bg} background",
    "a {bg} background with a {a} {rel} a {b}",
    "an image of a {a} {rel} a {b} on {bg}",
)
_WORD = (
    "the word {w} at the {pw} on a {bg} background",
    "the word {w} {pw}, {bg} background",
    "a {bg} background with the word {w} at the {pw}",
    "{w} at the {pw}, the background is {bg}",
    "an image of the word {w} at the {pw} on {bg}",
)
_WORD_AND_OBJECT = (
    "the word {w} at the {pw}, a {a} at the {pa}, {bg} background",
    "the word {w} {pw} and {a} {pa}, {bg} background",
    "a {bg} background with the word {w} {pw} and a {a} {pa}",
    "{a} {pa}, the word {w} {pw}, {bg} background",
    "{w} at the {pw}, a {a} at the {pa}, on {bg}",
)
_MANY = (
    "{items}, {bg} background",
    "{items} on {bg}",
    "{bg} background, {items}",
    "on {bg}, {items}",
    "{bg} background with {items}",
)
_PORTRAIT = (
    "a {e} face with {h} hair, {s} skin, {g}, {c} shirt, {bg} background",
    "a portrait, {h} hair, {s} skin, {e}, {g}, {c} shirt, on a {bg} background",
    "{e} face, {s} skin, {h} hair, {g}, {c} shirt, on {bg}",
    "a {bg} background with a {e} face, {h} hair, {s} skin, {g}, {c} shirt",
    "portrait of a {e} face on {bg}, {s} skin, {h} hair, {g}, {c} shirt",
)
_LAYOUT = (
    "a {bg} page with the title {t} and {l}",
    "{bg} page, title {t}, {l}",
    "the title {t} over {l} on a {bg} page",
    "an image of a {bg} page, title {t}, {l}",
    "{bg} page with {l} below the title {t}",
)
DAMAGED = {"": "", "blur": ", blurred", "noise": ", with noise", "small": ", in coarse pixels", "hole": ", with a hole"}
TEXTURED = {"plain": "", "stripes": "striped ", "dots": "dotted ", "gradient": "shaded "}


def captions(scene: Scene, rng: np.random.Generator, n: int = 1) -> list[str]:
    """``n`` captions, as different as the number of phrasings allows."""
    templates, slots = _phrasings(scene)
    order: list[int] = []
    while len(order) < n:
        order += [int(i) for i in rng.permutation(len(templates))]
    return [templates[i].format(**slots) + DAMAGED[scene.damage] for i in order[:n]]


def all_captions(scene: Scene) -> list[str]:
    """The scene in every phrasing."""
    templates, slots = _phrasings(scene)
    return [template.format(**slots) + DAMAGED[scene.damage] for template in templates]


def structured_caption(scene: Scene) -> str:
    """The picture as drawn: background, then every cell in reading order, e.g. ``white ; red circle , none , K , O``."""
    background = _background(scene)
    if scene.portrait:
        face = scene.portrait
        return f"{background} ; {face.hair} hair , {face.skin} skin , {_glasses(face)} , {face.expression} , {face.shirt} shirt"
    if scene.layout:
        return f"{background} ; title {scene.layout.title} , " + " , ".join(f"line {line}" for line in scene.layout.lines)
    return f"{background} ; " + " , ".join(cell_words(scene)) + DAMAGED[scene.damage].replace(",", " ;")


def cell_words(scene: Scene) -> list[str]:
    """What every cell shows, in reading order: ``red circle``, a letter, or ``none``."""
    shown = scene.occupied()
    cells = [(row, col) for row in range(scene.grid[0]) for col in range(scene.grid[1])]
    return [_cell(shown.get(cell)) for cell in cells]


def name(item: Object) -> str:
    """``red circle``."""
    return f"{item.color} {item.shape}"


def _cell(shown: Object | str | None) -> str:
    return name(shown) if isinstance(shown, Object) else shown or "none"


def _background(scene: Scene) -> str:
    return TEXTURED[scene.texture] + scene.background


def _phrasings(scene: Scene) -> tuple[Sequence[str], dict[str, str]]:
    """The templates that fit the scene, and what fills them."""
    slots = {"bg": _background(scene)}
    if scene.portrait:
        return _PORTRAIT, slots | _face(scene.portrait)
    if scene.layout:
        return _LAYOUT, slots | _page(scene.layout)
    if scene.kind == "many":
        places = [f"{name(item)} {place(item.row, item.col, scene.grid)}" for item in scene.objects]
        return _MANY, slots | {"items": ", ".join(places)}
    for letter, item in zip("ab", scene.objects, strict=False):
        slots |= {letter: name(item), f"p{letter}": place(item.row, item.col, scene.grid)}
    if scene.kind == "count":
        return _COUNT, slots | {"n": NUMBERS[len(scene.objects)]}
    if scene.kind == "relation":
        return _RELATION, slots | {"rel": scene.relation or ""}
    if scene.words:
        word = scene.words[0]
        slots |= {"w": word.text, "pw": half(word.row, scene.grid)}
        return (_WORD_AND_OBJECT if scene.objects else _WORD), slots
    return (_ONE if len(scene.objects) == 1 else _TWO), slots


def _face(face: Portrait) -> dict[str, str]:
    return {"h": face.hair, "s": face.skin, "e": face.expression, "g": _glasses(face), "c": face.shirt}


def _glasses(face: Portrait) -> str:
    return "glasses" if face.glasses else "no glasses"


def _page(layout: Layout) -> dict[str, str]:
    lines = " and ".join(layout.lines)
    return {"t": layout.title, "l": f"the line {lines}" if len(layout.lines) == 1 else f"the lines {lines}"}
