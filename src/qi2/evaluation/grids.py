"""Labelled picture grids: columns are models, rows are prompts, and every cell may carry the checker's mark."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

GAP, LABEL, PROMPT = 8, 26, 190
GOOD, BAD, INK, PAPER, SOFT = (27, 127, 75), (179, 55, 44), (29, 33, 38), (255, 255, 255), (98, 107, 118)


@dataclass(frozen=True)
class Cell:
    """One picture of a grid; ``right`` is the checker's verdict or None where nothing is judged."""

    image: Image.Image
    right: bool | None = None


def grid(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell | None]]], side: int = 128) -> Image.Image:
    """Rows of (prompt, cells) under column labels; pictures are fitted into ``side`` pixels, small ones enlarged without blur."""
    width = GAP + PROMPT + len(columns) * (side + GAP)
    sheet = Image.new("RGB", (width, LABEL + len(rows) * (side + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, name in enumerate(columns):
        draw.text((GAP + PROMPT + index * (side + GAP), 7), name, SOFT, ImageFont.load_default(13))
    for number, (prompt, cells) in enumerate(rows):
        top = LABEL + number * (side + GAP)
        draw.multiline_text((GAP, top), textwrap.fill(prompt, 27), INK, ImageFont.load_default(13), spacing=4)
        for index, cell in enumerate(cells):
            if cell is not None:
                _paste(sheet, draw, cell, (GAP + PROMPT + index * (side + GAP), top), side)
    return sheet


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, corner: tuple[int, int], side: int) -> None:
    x, y = corner
    sheet.paste(fit(cell.image, side), (x, y))
    if cell.right is None:
        return
    colour = GOOD if cell.right else BAD
    draw.rectangle((x, y, x + side - 1, y + side - 1), outline=colour, width=2)
    draw.ellipse((x + side - 24, y + 5, x + side - 5, y + 24), fill=colour)
    strokes = [((-5, 0), (-1, 4), (5, -4))] if cell.right else [((-4, -4), (4, 4)), ((-4, 4), (4, -4))]
    for stroke in strokes:
        draw.line([(x + side - 15 + dx, y + 14 + dy) for dx, dy in stroke], PAPER, 2)


def fit(image: Image.Image, side: int) -> Image.Image:
    """The picture scaled into a square of ``side`` pixels and centred on white."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    resampling = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    square = Image.new("RGB", (side, side), PAPER)
    square.paste(image.convert("RGB").resize(size, resampling), ((side - size[0]) // 2, (side - size[1]) // 2))
    return square
