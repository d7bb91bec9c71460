"""The procedural world's exact checkers as a judge of edits: what was asked for is there or not, and what may not change is measured.

A row's references are scenes (``{world: SCENE}``), its ``target`` is the right scene and ``region`` what alone may change; its category is the kind of edit.
``keep`` lists what a picture takes over from its references: {"color", "shape"} of an object, {"word"}, or {"background", "texture"} of a style.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world import checker, damage, edits, palette, render, rich
from qi2.data.world.checker import UNKNOWN, Reading, check_edit, compare, read
from qi2.data.world.edits import Edit
from qi2.data.world.scene import Scene
from qi2.evaluation.aggregate.base import Answer
from qi2.evaluation.scorers import world
from qi2.evaluation.scorers.base import code_hash
from qi2.evaluation.suites.references.base import DrawnReference
from qi2.evaluation.suites.row import Row
from qi2.evaluation.suites.suite import Suite

FLOOR = 4.0  # levels of 255: a mean change below it costs nothing. Three times what the VAE of scale tiny changes by itself; a row's ``floor`` is another
Scores = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """What the checkers say of one picture, each from 0 (wrong) to 1."""

    done: float  # the asked-for change is there
    kept: float  # what may not change has not, within the floor
    clean: float  # cells and background that show something of the world
    preserved: float  # what a row says to keep
    followed: float  # all else that was asked for


def _gedit(seen: Seen) -> Scores:
    """Semantics is the change; quality the worse of what was left alone and what can be read, as VIEScore takes the least."""
    return {"semantics": 10 * seen.done, "quality": [10 * seen.kept, 10 * seen.clean]}


def _imgedit(seen: Seen) -> Scores:
    return {"compliance": 1 + 4 * seen.done, "naturalness": 1 + 4 * seen.clean, "integrity": 1 + 4 * seen.kept}


def _dreambench(seen: Seen) -> Scores:
    return {"preservation": 4 * seen.preserved, "following": 4 * seen.followed}


RULES: dict[str, Callable[[Seen], Scores]] = {"gedit": _gedit, "imgedit": _imgedit, "dreambench": _dreambench}


class WorldJudge:
    """Speaks the scales of RULES; raises QI2Error for a suite of another formula, or whose rows are no edits of the world."""

    name = world.NAME

    def __init__(self, suite: Suite) -> None:
        formula = suite.config.aggregate
        if formula not in RULES:
            raise QI2Error(f"the world's judge does not know the scale of aggregate {formula} (suite {suite.name}); it knows {', '.join(RULES)}")
        for row in suite.rows:
            edit_of(row)
        self.rule = RULES[formula]
        self.identity = f"{world.IDENTITY} {formula} {_code()}"

    def answer(self, pictures: Sequence[Image.Image], row: Row) -> list[Answer | None]:
        """The scores of each picture."""
        return [{"scores": self.rule(look(picture, row))} for picture in pictures]


def edit_of(row: Row) -> Edit:
    """The edit that a row is; raises QI2Error where it is none."""
    scenes = [one.values for one in row.references if isinstance(one, DrawnReference) and one.kind == "world"]
    if not scenes or len(scenes) != len(row.references) or not {"target", "region"} <= row.truth.keys():
        raise QI2Error(f"row {row.id} is no edit of the world; it has references {{world: SCENE}}, a target and a region, or name another judge with --scorer")
    region = row.truth["region"]
    cells = region if isinstance(region, str) else tuple((int(r), int(c)) for r, c in region)
    return Edit(row.category, tuple(map(Scene.from_dict, scenes)), Scene.from_dict(row.truth["target"]), row.prompt, cells)


def look(picture: Image.Image, row: Row) -> Seen:
    """Everything that the checkers see in a square picture."""
    if picture.width != picture.height:
        raise QI2Error(f"the world's checker reads square pictures, not {picture.width}x{picture.height} px (row {row.id}); draw the suite with one size")
    edit, reading = edit_of(row), _as(picture, edit_of(row).target)
    found = check_edit(picture, edit, row.references[0].open(picture.width))
    floor, change = float(row.truth.get("floor", FLOOR)), float(found["kept_mae"])
    clean = max(_clean(_as(picture, scene)) for scene in dict.fromkeys((edit.target, *edit.references)))
    keep = row.truth.get("keep", ())
    return Seen(float(found["done"]), min(1.0, floor / change) if change else 1.0, clean, preserved(reading, keep), followed(reading, edit, keep))


def preserved(reading: Reading, keep: Sequence[Mapping[str, Any]]) -> float:
    """Mean over what is to be kept: of an object half for its shape and half for its colour, of the most like it that the picture shows."""
    return float(np.mean([_preserved(reading, item) for item in keep])) if keep else 1.0


def _preserved(reading: Reading, item: Mapping[str, Any]) -> float:
    if "background" in item:  # the texture was assumed when the picture was read: another one has no background
        return float(reading.background == item["background"])
    if "word" in item:
        return float(item["word"] in reading.words())
    return max(((shown.shape == item["shape"]) + (shown.color == item["color"])) / 2 for shown in reading.objects()) if reading.objects() else 0.0


def followed(reading: Reading, edit: Edit, keep: Sequence[Mapping[str, Any]]) -> float:
    """Share of what is asked for beside ``keep``: places and background where the first reference has others, and every further object and word."""
    source, target = edit.references[0], edit.target
    asked = [compare(reading, target)["position"]] if source.occupied().keys() != target.occupied().keys() else []
    if (source.background, source.texture) != (target.background, target.texture) and not any("background" in item for item in keep):
        asked.append(reading.background == target.background)
    kept = [(item["color"], item["shape"]) for item in keep if "shape" in item]
    asked += [reading.cells[item.cell] == item for item in target.objects if item.combo not in kept]
    asked += [word.text in reading.words() for word in target.words if {"word": word.text} not in [dict(item) for item in keep]]
    return float(np.mean(asked)) if asked else 1.0


def _as(picture: Image.Image, scene: Scene) -> Reading:
    return read(picture, scene.grid, scene.texture, scene.outlined)


def _clean(reading: Reading) -> float:
    known = [shown != UNKNOWN for shown in reading.cells.values()]
    return float(np.mean([*known, reading.background is not None]))


@lru_cache(maxsize=1)
def _code() -> str:
    import sys

    return code_hash(sys.modules[__name__], checker, damage, edits, palette, render, rich)
