"""Soft-edged shapes that operations cut out of a photograph or paste into one, and the names of places."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from qi2.data.edits.base import Rng, pick

SHAPES = ("oval", "rounded rectangle")
SUPERSAMPLE = 4
SOFT = 0.006  # of the shorter side: blur of the edge
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Cut:
    """``alpha``: coverage (L) of a shape on a picture's canvas; ``box``: what holds all of it; ``place``: one of nine, e.g. top left."""

    alpha: Image.Image
    box: Box
    shape: str
    place: str


def draw_cut(rng: Rng, size: tuple[int, int], share: tuple[float, float], centred: bool = False) -> Cut:
    """A random shape with sides of ``share`` of the picture's, in the centre or in the middle of one of nine places."""
    width, height = (max(8, round(side * rng.uniform(*share))) for side in size)
    row, col = (1, 1) if centred else (int(rng.integers(3)), int(rng.integers(3)))
    left = _start(col, size[0], width)
    top = _start(row, size[1], height)
    shape = pick(rng, SHAPES)
    return Cut(shape_alpha(shape, size, (left, top, left + width, top + height)), (left, top, left + width, top + height), shape, name(row, col))


def name(row: int, col: int) -> str:
    """The name of one of nine places."""
    return "centre" if (row, col) == (1, 1) else f"{ROWS[row]} {COLUMNS[col]}"


def shape_alpha(shape: str, size: tuple[int, int], box: Box) -> Image.Image:
    """Coverage (L) of an oval or a rounded rectangle that keeps, with its soft edge, inside the box."""
    width, height = box[2] - box[0], box[3] - box[1]
    soft = max(1.0, SOFT * min(size))
    rim = round(2 * soft) * SUPERSAMPLE
    canvas = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE), 0)
    inner = (rim, rim, canvas.width - 1 - rim, canvas.height - 1 - rim)
    draw = ImageDraw.Draw(canvas)
    if shape == "oval":
        draw.ellipse(inner, fill=255)
    else:
        draw.rounded_rectangle(inner, min(width, height) * SUPERSAMPLE // 5, fill=255)
    alpha = Image.new("L", size, 0)
    alpha.paste(canvas.resize((width, height), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(soft / 2)), box)
    return alpha


def cut_out(photo: Image.Image, rng: Rng, shape: str, share: tuple[float, float], aspect: float) -> tuple[Image.Image, Image.Image]:
    """A part of the photograph around its middle, RGB, and the coverage of the shape that it is cut by, of the same size.

    ``share``: range of the part's sides relative to the largest part of this ``aspect`` (width / height) that fits.
    """
    largest = min(photo.width / aspect, photo.height) * float(rng.uniform(*share))
    width, height = max(8, round(largest * aspect)), max(8, round(largest))
    left, top = ((side - own) * rng.uniform(0.35, 0.65) for side, own in zip(photo.size, (width, height), strict=True))
    part = photo.crop((int(left), int(top), int(left) + width, int(top) + height))
    return part, shape_alpha(shape, part.size, (0, 0, width, height))


def on_plain(part: Image.Image, alpha: Image.Image, colour: str = "white") -> Image.Image:
    """A cut-out on a plain canvas."""
    return Image.composite(part, Image.new("RGB", part.size, colour), alpha)


def _start(index: int, whole: int, own: int) -> int:
    """Where an interval of length ``own`` begins whose middle lies in the middle of third ``index``, or as near as the picture allows."""
    return int(np.clip(round(whole * (2 * index + 1) / 6 - own / 2), 0, whole - own))
