"""Checkers of faces and pages of text, by comparison with drawings of every alternative."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from qi2.data.world.palette import BACKGROUNDS, COLORS, EXPRESSIONS, HAIR, INK, LAYOUT_WORDS, SKIN
from qi2.data.world.render import render
from qi2.data.world.rich import line_mask, line_top
from qi2.data.world.scene import Scene

Array = np.ndarray

FACE_SIDE = 32  # px at which faces are compared
FACE_TOLERANCE = 30.0  # mean absolute error over the pixels that an attribute decides
WHOLE_TOLERANCE = 14.0  # and over the whole picture
LINE_OVERLAP = 0.55  # least soft intersection over union of a line of text
EMPTY_LINE = 0.015  # mean coverage below which a line is empty

_ALTERNATIVES: dict[str, Sequence[Any]] = {
    "hair": tuple(HAIR),
    "skin": tuple(SKIN),
    "glasses": (False, True),
    "expression": EXPRESSIONS,
    "shirt": tuple(COLORS),
}


def check_rich(image: Image.Image, scene: Scene) -> dict[str, bool]:
    """``check`` of a portrait (hair, skin, glasses, expression, shirt, background, face) or a layout (word, count, background)."""
    result = _check_face(image, scene) if scene.portrait else _check_page(image, scene)
    return result | {"all": all(result.values())}


def _check_face(image: Image.Image, scene: Scene) -> dict[str, bool]:
    assert scene.portrait is not None
    pixels = _pixels(image.resize((FACE_SIDE, FACE_SIDE), Image.Resampling.BOX))
    result: dict[str, bool] = {}
    for name, values in _ALTERNATIVES.items():
        scenes = [replace(scene, portrait=replace(scene.portrait, **{name: value})) for value in values]
        result[name] = _best(pixels, scenes, values.index(getattr(scene.portrait, name)))
    scenes = [replace(scene, background=name) for name in BACKGROUNDS]
    result["background"] = _best(pixels, scenes, list(BACKGROUNDS).index(scene.background))
    result["face"] = bool(np.abs(pixels - _face(scene)).mean() < WHOLE_TOLERANCE)
    return result


def _best(pixels: Array, scenes: Sequence[Scene], expected: int) -> bool:
    """Whether the expected drawing fits best, and well, where the alternatives differ."""
    drawn = np.stack([_face(scene) for scene in scenes])
    where = np.ptp(drawn, axis=0).max(axis=-1) > 8
    errors = np.abs(drawn[:, where] - pixels[where]).mean(axis=(1, 2))
    return bool(errors.argmin() == expected and errors[expected] < FACE_TOLERANCE)


@lru_cache(maxsize=2048)
def _face(scene: Scene) -> Array:
    return _pixels(render(scene, FACE_SIDE))


def _check_page(image: Image.Image, scene: Scene) -> dict[str, bool]:
    assert scene.layout is not None
    pixels = _pixels(image)
    corners = np.concatenate([pixels[: image.height // 20].reshape(-1, 3), pixels[-(image.height // 20) :].reshape(-1, 3)])
    median = np.median(corners, axis=0)
    names, colors = tuple(BACKGROUNDS), np.array(list(BACKGROUNDS.values()), dtype=np.float32)
    distance = np.linalg.norm(colors - median, axis=1)
    span = np.array(INK, dtype=np.float32) - median
    coverage = np.clip((pixels - median) @ (span / (span @ span)), 0.0, 1.0)
    wanted = (scene.layout.title, *scene.layout.lines, *[""] * (3 - len(scene.layout.lines)))
    shown = [_read_line(coverage, index) for index in range(4)]
    return {
        "word": shown == list(wanted),
        "count": [bool(text) for text in shown] == [bool(text) for text in wanted],
        "background": bool(names[int(distance.argmin())] == scene.background and distance.min() < 45),
    }


def _read_line(coverage: Array, index: int) -> str:
    """The word of the title (index 0) or of a line, ``?`` when it is none that the world knows, empty when there is none."""
    size = coverage.shape[1]
    masks, areas = _line_stack(index == 0, size)
    top = line_top(index, size)
    ink = coverage[top : top + masks.shape[1]]
    if ink.max() < 0.5 or ink.mean() < EMPTY_LINE:
        return ""
    shared = np.minimum(masks, ink).sum(axis=(1, 2))
    overlap = shared / (areas + ink.sum() - shared)
    return LAYOUT_WORDS[int(overlap.argmax())] if overlap.max() > LINE_OVERLAP else "?"


@lru_cache(maxsize=16)
def _line_stack(title: bool, size: int) -> tuple[Array, Array]:
    """Masks (words, height, size) of every word, and their areas."""
    masks = np.stack([np.asarray(line_mask(word, title, size), dtype=np.float32) / 255.0 for word in LAYOUT_WORDS])
    return masks, masks.sum(axis=(1, 2))


def _pixels(image: Image.Image) -> Array:
    return np.asarray(image.convert("RGB"), dtype=np.float32)
