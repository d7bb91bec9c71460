"""The procedural world's exact checkers as a detector and a reader: they know its shapes, colours and letters, and nothing else.

A row may say the ``grid`` (rows, columns; 2 by 2 by default) and the ``texture`` of its pictures.
"""

from collections.abc import Sequence

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world import checker, palette, render
from qi2.data.world.checker import Reading
from qi2.data.world.render import cell_box
from qi2.data.world.scene import Cell, Object
from qi2.evaluation.aggregate.base import Answer
from qi2.evaluation.scorers.base import code_hash
from qi2.evaluation.suites.row import Row

NAME = "world-checker"
IDENTITY = f"{NAME} {code_hash(checker, palette, render)}"


class WorldDetector:
    """Shapes with their colours; a letter is an object of class ``letter``, what cannot be read one of class ``unknown``."""

    name, identity = NAME, IDENTITY

    def answer(self, pictures: Sequence[Image.Image], row: Row) -> list[Answer | None]:
        """Every object fills its cell, surely."""
        grid = _grid(row)
        return [{"objects": [_found(shown, grid, cell, picture.width) for cell, shown in _read(picture, row).cells.items() if shown]} for picture in pictures]


class WorldReader:
    """The letters of every row of cells, as a line."""

    name, identity = NAME, IDENTITY

    def answer(self, pictures: Sequence[Image.Image], row: Row) -> list[Answer | None]:
        """The words that stand in each picture."""
        return [{"lines": _read(picture, row).words()} for picture in pictures]


def _grid(row: Row) -> Cell:
    rows, columns = row.truth.get("grid", (2, 2))
    return int(rows), int(columns)


def _read(picture: Image.Image, row: Row) -> Reading:
    if picture.width != picture.height:
        raise QI2Error(f"the world's checker reads square pictures, not {picture.width}x{picture.height} px (row {row.id}); draw the suite with one size")
    return checker.read(picture, _grid(row), str(row.truth.get("texture", "plain")))


def _found(shown: Object | str, grid: Cell, cell: Cell, size: int) -> dict[str, object]:
    box = [float(edge) for edge in cell_box(grid, cell, size)]
    if isinstance(shown, Object):
        return {"class": shown.shape, "box": box, "score": 1.0, "color": shown.color}
    return {"class": "unknown" if shown == checker.UNKNOWN else "letter", "box": box, "score": 1.0, "color": "black"}
