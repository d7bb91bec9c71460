"""Contact sheets: pictures of the world with their captions under them, for people to look at."""

import textwrap

from PIL import Image, ImageDraw, ImageFont

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.world.captions import captions
from qi2.data.world.edits import ALL_EDIT_KINDS, sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import KINDS

MARGIN = 6
LINE = 13
COLUMNS = 6


def sheet(kinds: list[str], n: int, size: int = 64, seed: int = 0, zoom: int = 3) -> Image.Image:
    """``n`` examples of every kind (scene kinds and edit kinds), drawn at ``size`` px and enlarged ``zoom`` times without smoothing.

    An edit shows its reference(s) and then the target. Raises QI2Error for an unknown kind.
    """
    tiles: list[tuple[Image.Image, str]] = []
    for kind in kinds:
        if kind not in KINDS and kind not in ALL_EDIT_KINDS:
            raise QI2Error(f"no kind {kind!r}; choose from {', '.join(KINDS + ALL_EDIT_KINDS)}")
        for index in range(n):
            tiles.append(_tile(kind, size, zoom, seed, index))
    return _arrange(tiles)


def _tile(kind: str, size: int, zoom: int, seed: int, index: int) -> tuple[Image.Image, str]:
    rng = numpy_rng(seed, f"sheet-{kind}", index)
    if kind in KINDS:
        scene = sample_scene(rng, kind, "any")
        pictures, text = [render(scene, size)], captions(scene, rng)[0]
    else:
        edit = sample_edit(rng, kind, "any")
        pictures, text = [render(scene, size) for scene in (*edit.references, edit.target)], edit.instruction
    strip = Image.new("RGB", (len(pictures) * (size * zoom + 2) - 2, size * zoom), "black")
    for place, picture in enumerate(pictures):
        strip.paste(picture.resize((size * zoom, size * zoom), Image.Resampling.NEAREST), (place * (size * zoom + 2), 0))
    return strip, text


def _arrange(tiles: list[tuple[Image.Image, str]]) -> Image.Image:
    """Tiles in rows, with the caption wrapped under each."""
    font = ImageFont.load_default(11)
    widest = max(tile.width for tile, _ in tiles)
    columns = max(1, min(COLUMNS, 1300 // (widest + MARGIN)))
    width, height = widest + MARGIN, tiles[0][0].height + 3 * LINE + MARGIN
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), (60, 60, 60))
    draw = ImageDraw.Draw(page)
    for index, (tile, text) in enumerate(tiles):
        x, y = MARGIN + index % columns * width, MARGIN + index // columns * height
        page.paste(tile, (x, y))
        lines = textwrap.wrap(text, max(10, widest // 6))[:3]
        draw.multiline_text((x, y + tile.height + 1), "\n".join(lines), fill="white", font=font, spacing=1)
    return page
