"""A page as data: what kind it is and every text on it with its place. JSON in both directions is exact."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.pages.colors import RGB
from qi2.data.pages.layout import Box

LEAST, MOST, ASPECT = 64, 2048, 3  # sides in pixels, and the longer over the shorter one


@dataclass(frozen=True)
class Block:
    """One text of a page. Blocks stand in reading order; ``lines`` are the text as it is broken on the page."""

    role: str
    text: str
    lines: tuple[str, ...]
    language: str
    script: str
    direction: str  # ltr, rtl or ttb
    box: Box  # of the ink
    size: int  # pixels per em
    font: str
    color: RGB
    ground: RGB


@dataclass(frozen=True)
class Page:
    """The ground truth of one page picture; ``size`` is (width, height) in pixels."""

    kind: str
    size: tuple[int, int]
    language: str
    blocks: tuple[Block, ...]

    @property
    def title(self) -> str:
        """The text of the title, which every page has."""
        return next(block.text for block in self.blocks if block.role == "title")

    def to_json(self) -> str:
        """One line of JSON; letters are kept as they are."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> "Page":
        """The page that ``to_json`` wrote."""
        found = json.loads(text)
        return Page(found["kind"], _tuple(found["size"]), found["language"], tuple(_block(block) for block in found["blocks"]))


def draw_page(
    rng: np.random.Generator, kind: str, language: str, size: tuple[int, int], split: str = "any", folders: tuple[str, ...] = ()
) -> tuple[Image.Image, Page]:
    """A random page of the kind and language, and its ground truth.

    ``size`` is (width, height), each 64 to 2048 px and at most 1:3; the amount of text follows it. ``split`` (train, heldout, any) bounds the title,
    ``folders`` are searched for fonts beside the usual ones. Raises QI2Error for an unknown kind or language, a size out of range, or no font.
    """
    from qi2.data.pages.compose import compose

    if not (min(size) >= LEAST and max(size) <= MOST and max(size) <= ASPECT * min(size)):
        raise QI2Error(f"a page of {size[0]}x{size[1]} px cannot be drawn; sides must be {LEAST} to {MOST} px and at most 1:{ASPECT}")
    composer = compose(rng, kind, language, size, split, folders)
    return composer.written(), Page(kind, size, language, tuple(composer.blocks))


def _block(found: dict[str, Any]) -> Block:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return Block(**values)


def _tuple(values: list[int]) -> tuple[int, int]:
    return values[0], values[1]
