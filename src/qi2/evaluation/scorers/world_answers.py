"""The procedural world's checkers under yes-or-no questions: a row's ``scene`` is what is right, and a question's id the attribute that it asks about.

Faces have hair, skin, glasses, expression, shirt and background, pages of text word, count and background; other scenes what `checker.check` says of them.
"""

from collections.abc import Sequence

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world import checker, checker_rich, palette, render, rich
from qi2.data.world.checker import check
from qi2.data.world.render import render as drawn
from qi2.data.world.scene import Scene
from qi2.evaluation.aggregate.base import Answer
from qi2.evaluation.scorers import world
from qi2.evaluation.scorers.base import code_hash
from qi2.evaluation.suites.row import Row
from qi2.evaluation.suites.suite import Suite

SIDE = 64  # px at which the right picture is asked about, to see which questions there are


class WorldAnswers:
    """Answers of the exact checkers; raises QI2Error for a suite whose rows are no scenes, or ask for what the checker of the scene does not know."""

    name = world.NAME

    def __init__(self, suite: Suite) -> None:
        for row in suite.rows:
            known = check(drawn(_scene(row), SIDE), _scene(row))
            if unknown := {str(question["id"]) for question in row.truth["questions"]} - known.keys():
                raise QI2Error(f"row {row.id} asks for {', '.join(sorted(unknown))}; of its scene the world's checker knows {', '.join(known)}")
        self.identity = f"{world.IDENTITY} vqa {code_hash(checker, checker_rich, palette, render, rich)}"

    def answer(self, pictures: Sequence[Image.Image], row: Row) -> list[Answer | None]:
        """Yes or no to every question, of each picture."""
        ids, found = [str(question["id"]) for question in row.truth["questions"]], [check(picture, _scene(row)) for picture in pictures]
        return [{"answers": {name: bool(one[name]) for name in ids}} for one in found]


def _scene(row: Row) -> Scene:
    if "scene" not in row.truth:
        raise QI2Error(f"row {row.id} has no scene, so the world's checker cannot answer its questions; name another scorer with --scorer vqa=URL#MODEL")
    return Scene.from_dict(row.truth["scene"])
