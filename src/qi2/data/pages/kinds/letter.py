"""A letter: date, subject, greeting, text, closing and name."""

from qi2.data.pages.colors import RGB
from qi2.data.pages.compose import Composer
from qi2.data.pages.kinds.parts import title_height

PAPER: RGB = (253, 251, 244)
TOKENS = 300


def draw_letter(c: Composer) -> None:
    """Draw it."""
    width, height, m = *c.size, c.margin
    c.rectangle((0, 0, width, height), PAPER)
    size, y, left, right = c.body, m, 2 * m, width - 2 * m
    if height >= 200:
        date = c.text("date", c.write.date(), (left, y, right, y + 2 * size), size, PAPER, align="end")
        y = (date[3] if date else y) + size
    title = c.text("title", c.write.titles(), (left, y, right, y + min(title_height(c, 0.12), height - m - y)), round(1.3 * size), PAPER, bold=True)
    y = (title[3] if title else y) + size
    greeting = c.text("greeting", c.write.label("greeting", c.write.pick("names")), (left, y, right, height - m), size, PAPER, least=size)
    y = (greeting[3] if greeting else y) + size
    ending = height - m - 4 * size
    if ending - y > 2 * size:
        text = c.prose("text", c.write.prose(TOKENS), (left, y, right, ending), size, PAPER)
        y = (text[3] if text else y) + size
    if height - m - y >= 3 * size:
        closing = c.text("closing", c.write.label("closing"), (left, y, right, y + 2 * size), size, PAPER, least=size)
        y = (closing[3] if closing else y) + size // 2
        c.text("name", c.write.pick("names"), (left, y, right, height - m), size, PAPER, least=size)
