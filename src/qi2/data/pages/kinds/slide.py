"""A slide: title, bullet points, on wide pages a drawing, and a footer."""

from qi2.data.pages.compose import Composer
from qi2.data.pages.kinds.parts import emblem, title_height

ITEMS = 6


def draw_slide(c: Composer) -> None:
    """Draw it."""
    width, height, m = *c.size, c.margin
    top, footer = title_height(c, 0.2) + m, round(1.6 * max(c.least, 2 * c.body // 3)) if height >= 240 else 0
    band = c.rng.random() < 0.5
    if band:
        c.rectangle((0, 0, width, top), c.theme.accent)
    ground = c.theme.accent if band else c.theme.ground
    c.text("title", c.write.titles(), (m, m // 2, width - m, top - m // 2), 2 * c.body, ground, valign="middle", bold=True)
    if not band:
        c.rectangle((m, top, width - m, top + max(1, m // 6)), c.theme.accent)
    right = width - m
    if width >= 1.2 * height and width >= 300:
        right = round(0.62 * width)
        emblem(c, (right + 2 * m, top + 2 * m, width - 2 * m, height - footer - 2 * m))
    _items(c, right, top + m, height - footer - m)
    if footer:
        small = max(c.least, 2 * c.body // 3)
        c.text("date", c.write.date(), (m, height - footer, width // 2, height - 2), small, c.theme.ground)
        number = c.write.number(c.rng.integers(2, 100))
        c.text("page number", number, (width // 2, height - footer, width - m, height - 2), small, c.theme.ground, align="end")


def _items(c: Composer, right: int, y: int, bottom: int) -> None:
    size = round(1.25 * c.body) if bottom - y > 14 * c.body else c.body
    indent, dot = size, max(3, size // 3)
    short = c.write.phrases(ITEMS)
    for number in range(int(c.rng.integers(3, ITEMS + 1))):
        options = [c.write.sentence(), short[number]] if number % 3 else [short[number]]
        box = c.text("item", options, (c.margin + indent, y, right, bottom), size, c.theme.ground, least=size)
        if box is None:
            return
        middle = y + size // 2
        c.ellipse((c.margin, middle - dot // 2, c.margin + dot, middle - dot // 2 + dot), c.theme.accent)
        y = box[3] + round(0.7 * size)
