"""Draws a scene at any size: cached supersampled masks of shapes and letters, pasted in their colour.

A mask is drawn once per (shape or letter, cell size) and reused, which makes a 64 px picture cost well under half a millisecond.
"""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qi2.data.world.palette import BACKGROUNDS, INK, OUTLINE, OUTLINES, PAINTS, RGB, SHAPES
from qi2.data.world.scene import Cell, Scene

SUPERSAMPLE = 8
CAP_HEIGHT = 0.68  # of the cell
STROKE = 0.04  # extra stroke around a letter, of the cell
RADIUS = 0.40  # of the cell
OUTLINE_WIDTH = 0.07  # of the cell
# Of the inscribed circle, in radii of the shape: its radius, and how far its centre lies below the shape's.
_INSCRIBED = {"circle": (1.0, 0.0), "square": (0.86, 0.0), "triangle": (0.588, 0.212), "star": (0.363, 0.0)}


def render(scene: Scene, size: int) -> Image.Image:
    """An RGB picture of ``size`` by ``size`` pixels."""
    from qi2.data.world import damage, rich

    image = Image.new("RGB", (size, size), BACKGROUNDS[scene.background])
    if scene.texture != "plain":
        rich.draw_texture(image, scene)
    if scene.portrait:
        rich.draw_portrait(image, scene.portrait)
    if scene.layout:
        rich.draw_layout(image, scene.layout)
    for item in scene.objects:
        paste_mark(image, item.shape, PAINTS[item.color], cell_box(scene.grid, item.cell, size))
    for word in scene.words:
        for cell, letter in zip(word.cells(), word.text, strict=True):
            paste_mark(image, letter, INK, cell_box(scene.grid, cell, size))
    return damage.damaged(image, scene) if scene.damage else image


def paste_mark(image: Image.Image, mark: str, color: RGB, box: tuple[int, int, int, int]) -> None:
    """Draw a shape or a letter into a box (left, top, right, bottom)."""
    image.paste(color, box, mark_mask(mark, box[2] - box[0], box[3] - box[1]))


def cell_box(grid: Cell, cell: Cell, size: int) -> tuple[int, int, int, int]:
    """Pixel box (left, top, right, bottom) of a cell."""
    rows, cols = grid
    row, col = cell
    return round(col * size / cols), round(row * size / rows), round((col + 1) * size / cols), round((row + 1) * size / rows)


@lru_cache(maxsize=4096)
def mark_mask(mark: str, width: int, height: int) -> Image.Image:
    """Coverage (mode L, 0..255) of a shape, its outline or a capital letter that stands in the middle of a cell."""
    canvas = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE), 0)
    side = min(canvas.size)
    centre = (canvas.width / 2, canvas.height / 2)
    if mark in SHAPES:
        _draw_shape(ImageDraw.Draw(canvas), mark, centre, RADIUS * side)
    elif mark in OUTLINES:
        _draw_outline(ImageDraw.Draw(canvas), mark.removesuffix(OUTLINE), centre, RADIUS * side, OUTLINE_WIDTH * side)
    else:
        draw_text(ImageDraw.Draw(canvas), mark, centre, CAP_HEIGHT * side, STROKE * side)
    return canvas.resize((width, height), Image.Resampling.BOX)


@lru_cache(maxsize=4096)
def mask_array(mark: str, width: int, height: int) -> np.ndarray:
    """``mark_mask`` as float32 (height, width) in 0..1."""
    return np.asarray(mark_mask(mark, width, height), dtype=np.float32) / 255.0


def draw_text(draw: ImageDraw.ImageDraw, text: str, centre: tuple[float, float], cap_height: float, stroke: float) -> None:
    """Write ``text`` centred on a point with capitals of the given height, in white, in the font that Pillow ships."""
    font = _font(cap_height)
    width = round(stroke)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font, anchor="ls", stroke_width=width)
    draw.text((centre[0] - (left + right) / 2, centre[1] - (top + bottom) / 2), text, 255, font, anchor="ls", stroke_width=width)


@lru_cache(maxsize=256)
def _font(cap_height: float) -> ImageFont.FreeTypeFont:
    reference = ImageFont.load_default(1000)
    top = reference.getbbox("H", anchor="ls")[1]
    font = ImageFont.load_default(max(1.0, 1000 * cap_height / -top))
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, centre: tuple[float, float], radius: float, fill: int = 255) -> None:
    x, y = centre
    if shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    elif shape == "square":
        side = 0.86 * radius
        draw.rectangle((x - side, y - side, x + side, y + side), fill=fill)
    elif shape == "triangle":
        draw.polygon([(x, y - radius), (x + radius, y + 0.8 * radius), (x - radius, y + 0.8 * radius)], fill=fill)
    else:
        points = [(radius * (1.08 if i % 2 == 0 else 0.44), np.pi * i / 5) for i in range(10)]
        draw.polygon([(x + r * np.sin(angle), y - r * np.cos(angle)) for r, angle in points], fill=fill)


def _draw_outline(draw: ImageDraw.ImageDraw, shape: str, centre: tuple[float, float], radius: float, width: float) -> None:
    """A line of even width inside the edge of a shape: scaled about the centre of its inscribed circle, every edge moves alike."""
    size, below = _INSCRIBED[shape]
    less = width / size
    _draw_shape(draw, shape, centre, radius)
    _draw_shape(draw, shape, (centre[0], centre[1] + below * less), radius - less, 0)
