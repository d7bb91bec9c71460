"""A sheet of paper with lines of text on a wall: a sign, a menu, a price list. Written in the font that Pillow ships, so that every machine draws the same.

That font has English letters, digits and common marks alone; an instruction may ask for any script.
"""

from typing import Any

from PIL import Image, ImageColor, ImageDraw, ImageFont

from qi2.core.errors import QI2Error
from qi2.data.world.render import SUPERSAMPLE

MARGIN, INSET = 0.08, 0.07  # of the picture: around the paper, and from its edge to the text
LEADING, TITLE = 1.45, 1.35  # height of a line in em; the first of several lines is larger by so much
MOST = 0.14  # em, of the picture
SCALE = SUPERSAMPLE // 4
KEYS = {"lines", "wall", "paper", "ink"}


def draw(values: Any, size: int) -> Image.Image:
    """``lines`` of text in the colour ``ink`` on ``paper`` before a ``wall``; a colour is a name of HTML or #rrggbb."""
    if unknown := set(values) - KEYS:
        raise QI2Error(f"a card has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(KEYS))}")
    lines, side = [str(line) for line in values["lines"]], size * SCALE
    if not lines or not "".join(lines).isascii():
        raise QI2Error(f"{lines} cannot be drawn in the font that Pillow ships; give lines of English letters, digits and marks")
    wall, paper, ink = (ImageColor.getrgb(values.get(key, default)) for key, default in (("wall", "slategray"), ("paper", "ivory"), ("ink", "black")))
    image = Image.new("RGB", (side, side), wall)
    pen, edge = ImageDraw.Draw(image), round(MARGIN * side)
    pen.rectangle((edge, edge, side - edge - 1, side - edge - 1), fill=paper)
    sizes, em = _sizes(lines, side)
    top = (side - LEADING * sum(sizes) * em) / 2
    for line, factor in zip(lines, sizes, strict=True):
        height = factor * em
        pen.text((side / 2, top + LEADING * height / 2), line, ink, ImageFont.load_default(height), anchor="mm")
        top += LEADING * height
    return image.resize((size, size), Image.Resampling.BOX)


def _sizes(lines: list[str], side: int) -> tuple[list[float], float]:
    """Relative sizes of the lines, and the em in pixels at which the widest and all together fit on the paper."""
    sizes = [TITLE if len(lines) > 1 and number == 0 else 1.0 for number in range(len(lines))]
    room, measure = (1 - 2 * MARGIN - 2 * INSET) * side, ImageFont.load_default(100)
    widest = max(factor * measure.getlength(line) / 100 for line, factor in zip(lines, sizes, strict=True))
    return sizes, min(room / widest, room / (LEADING * sum(sizes)), MOST * side)
