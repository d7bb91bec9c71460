"""Style transfer: exact filters that have a name. The way back is not exact, so it is not offered."""

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from qi2.data.edits.base import LAYOUT, NOTHING, Change, Given, Operation, everywhere, floats, picture, say

PHRASES = (
    "turn the photo into {style}",
    "make it look like {style}",
    "redraw the photo as {style}",
    "show the picture as {style}",
    "change the style to that of {style}",
)
SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
PIXELS = 40  # blocks along the longer side of pixel art
DOT = 0.6  # radius of a black dot, of the distance between dots: they just touch
DOTS = 48  # dots along the longer side of a halftone
LEAST_CONTRAST = 0.5  # of the photograph's, or the style has lost what the photograph showed


def pencil(image: Image.Image) -> Image.Image:
    """Colour dodge of the picture's luminance by its blurred negative: dark lines on white."""
    light = image.convert("L")
    soft = light.filter(ImageFilter.GaussianBlur(max(image.size) / 60))
    values = np.asarray(light, np.float32) * 255 / np.maximum(np.asarray(soft, np.float32), 1)
    return picture(np.clip(values, 0, 255) ** 2.5 / 255**1.5)


def oil(image: Image.Image) -> Image.Image:
    """The commonest colour around each pixel: flat strokes."""
    few = ImageOps.posterize(image.filter(ImageFilter.MedianFilter(5)), 4)
    return few.filter(ImageFilter.ModeFilter(2 * (max(image.size) // 80) + 3)).filter(ImageFilter.SMOOTH)


def poster(image: Image.Image) -> Image.Image:
    """Four flat levels per channel, over the whole range."""
    levels = np.floor(floats(ImageOps.autocontrast(image.filter(ImageFilter.MedianFilter(3)))) / 64)
    return picture(levels * 85)


def sepia(image: Image.Image) -> Image.Image:
    """Brown tones of an old print."""
    return picture(floats(image) @ SEPIA.T)


def pixel_art(image: Image.Image) -> Image.Image:
    """Large square blocks of few colours."""
    step = max(image.size) / PIXELS
    small = image.resize((max(1, round(image.width / step)), max(1, round(image.height / step))), Image.Resampling.BOX)
    return small.quantize(24, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB").resize(image.size, Image.Resampling.NEAREST)


def halftone(image: Image.Image) -> Image.Image:
    """Black dots on white whose size follows the darkness."""
    step = max(image.size) / DOTS
    columns, rows = max(1, round(image.width / step)), max(1, round(image.height / step))
    light = image.convert("L").resize((columns, rows), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)
    across = ((np.arange(image.width) + 0.5) * columns / image.width) % 1 - 0.5
    down = ((np.arange(image.height) + 0.5) * rows / image.height) % 1 - 0.5
    distance = np.hypot(down[:, None], across[None])
    radius = np.sqrt(1 - np.asarray(light, np.float32) / 255) * DOT
    return picture(255 * np.clip((distance - radius) * step + 0.5, 0, 1))


def cartoon(image: Image.Image) -> Image.Image:
    """Flat colours with dark outlines."""
    flat = image.filter(ImageFilter.MedianFilter(7)).quantize(12, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")
    edges = image.convert("L").filter(ImageFilter.GaussianBlur(1.5)).filter(ImageFilter.FIND_EDGES)
    lines = edges.point(lambda value: 0 if value > 24 else 255).filter(ImageFilter.GaussianBlur(0.7)).convert("RGB")
    lines.paste("white", (0, 0, lines.width, 2))
    return ImageChops.multiply(flat.filter(ImageFilter.MedianFilter(5)), lines)


STYLES: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "pencil_sketch": ("a pencil sketch", pencil),
    "oil_painting": ("an oil painting", oil),
    "poster": ("a poster with few flat colours", poster),
    "sepia": ("an old sepia photograph", sepia),
    "pixel_art": ("pixel art", pixel_art),
    "halftone": ("a halftone print of black dots", halftone),
    "cartoon": ("a cartoon with dark outlines", cartoon),
}
REDRAWN = ("pencil_sketch", "halftone")  # strokes and dots, whose edges need not be those of the photograph


def _apply(style: str, how: Callable[[Image.Image], Image.Image], given: Given) -> Change | None:
    target = how(given.photo)
    if _contrast(target) < LEAST_CONTRAST * _contrast(given.photo):
        return None
    return Change((given.photo,), target, everywhere(target), say(PHRASES, {"style": style}))


def _contrast(image: Image.Image) -> float:
    return float(np.asarray(image.convert("L"), np.float32).std())


OPERATIONS = tuple(
    Operation(kind, "style", partial(_apply, style, how), shares=NOTHING if kind in REDRAWN else LAYOUT) for kind, (style, how) in STYLES.items()
)
