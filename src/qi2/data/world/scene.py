"""The scene graph: everything that a picture of the world shows, as frozen dataclasses with a JSON round trip."""

import json
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from qi2.core.errors import QI2Error
from qi2.data.world.palette import OUTLINES

Cell = tuple[int, int]
Region = tuple[Cell, ...] | str  # what an edit may change: cells, "background" or "all"

TINY_KINDS = ("one", "two", "count", "relation", "text")
RICH_KINDS = ("many", "portrait", "layout")
KINDS = TINY_KINDS + RICH_KINDS


@dataclass(frozen=True)
class Object:
    """One coloured shape that fills the cell (row, col)."""

    shape: str
    color: str
    row: int
    col: int

    @property
    def combo(self) -> tuple[str, str]:
        """(colour, shape), the unit that the held-out split is made of."""
        return self.color, self.shape

    @property
    def cell(self) -> Cell:
        """(row, col)."""
        return self.row, self.col


@dataclass(frozen=True)
class Word:
    """Capital letters, one per cell, from (row, col) to the right."""

    text: str
    row: int
    col: int = 0
    color: str = "black"

    def cells(self) -> tuple[Cell, ...]:
        """The cells of the letters in reading order."""
        return tuple((self.row, self.col + i) for i in range(len(self.text)))


@dataclass(frozen=True)
class Portrait:
    """A face by its attributes (values in ``palette``)."""

    hair: str
    skin: str
    glasses: bool
    expression: str
    shirt: str = "red"


@dataclass(frozen=True)
class Layout:
    """A page with a title and one to three lines of text under it."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """One picture. ``relation`` reads "objects[0] RELATION objects[1]"; ``grid`` is (rows, columns) of equal cells.

    A picture of objects and words may be damaged (one of ``palette.DAMAGES``); its other fields then say what it showed before.
    """

    kind: str
    grid: Cell = (2, 2)
    background: str = "white"
    objects: tuple[Object, ...] = ()
    words: tuple[Word, ...] = ()
    relation: str | None = None
    portrait: Portrait | None = None
    layout: Layout | None = None
    texture: str = "plain"
    damage: str = ""

    def occupied(self) -> dict[Cell, Object | str]:
        """Cell to the object or the letter drawn there."""
        letters = {cell: letter for word in self.words for cell, letter in zip(word.cells(), word.text, strict=True)}
        return letters | {item.cell: item for item in self.objects}

    def free(self) -> list[Cell]:
        """The cells that show only the background, in reading order."""
        taken = self.occupied()
        return [(r, c) for r in range(self.grid[0]) for c in range(self.grid[1]) if (r, c) not in taken]

    @property
    def outlined(self) -> bool:
        """Whether this is an outline drawing."""
        return any(item.shape in OUTLINES for item in self.objects)

    def with_objects(self, *objects: Object) -> "Scene":
        """The scene with other objects, and the kind that follows from what it then shows."""
        kind = "text" if self.words else {1: "one", 2: "two"}.get(len(objects), "many")
        return replace(self, kind=kind, objects=objects, relation=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; fields at their default are left out."""
        values = {name: _plain(getattr(self, name)) for name, default in _DEFAULTS.items() if getattr(self, name) != default}
        return {"kind": self.kind} | values

    def to_json(self) -> str:
        """Compact JSON text."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Scene":
        """Inverse of ``to_dict``; raises QI2Error when a field is missing or unknown."""
        try:
            parts: dict[str, Any] = dict(values)
            parts["grid"] = tuple(parts.get("grid", (2, 2)))
            parts["objects"] = tuple(Object(**item) for item in parts.get("objects", ()))
            parts["words"] = tuple(Word(**item) for item in parts.get("words", ()))
            if parts.get("portrait"):
                parts["portrait"] = Portrait(**parts["portrait"])
            if parts.get("layout"):
                parts["layout"] = Layout(parts["layout"]["title"], tuple(parts["layout"]["lines"]))
            return Scene(**parts)
        except (TypeError, KeyError) as error:
            raise QI2Error(f"not a scene: {values!r} ({error}); it was written by another version of the world") from error

    @staticmethod
    def from_json(text: str) -> "Scene":
        """Inverse of ``to_json``."""
        return Scene.from_dict(json.loads(text))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {name: _plain(item) for name, item in vars(value).items()} if is_dataclass(value) else value


_DEFAULTS = {field.name: field.default for field in fields(Scene) if field.name != "kind"}
