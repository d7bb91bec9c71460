"""A page of a book: chapter, title, text and page number on paper."""

from qi2.data.pages.colors import RGB
from qi2.data.pages.compose import Composer
from qi2.data.pages.kinds.parts import main_text, title_height

PAPER: RGB = (249, 244, 230)
TOKENS = 800


def draw_book(c: Composer) -> None:
    """Draw it."""
    width, height, m = *c.size, round(1.4 * c.margin)
    c.rectangle((0, 0, width, height), PAPER)
    c.rectangle((0, 0, max(2, m // 3), height), (226, 216, 192))
    y, foot, number = m, height - m, int(c.rng.integers(2, 400))
    if height >= 240:
        foot -= 2 * c.least
        chapter = c.write.label("chapter", 1 + number // 20)
        head = c.text("chapter", chapter, (m, y, width - m, y + 2 * c.least), c.least, PAPER, align="centre", across=True)
        y = (head[3] if head else y) + c.body
    top = y + min(title_height(c, 0.1), foot - y)
    main_text(c, c.write.prose(TOKENS), PAPER, (m, y, width - m, top), (m, top + c.body // 2, width - m, foot), c.body)
    if height >= 240:
        c.text("page number", c.write.number(number), (m, foot + c.least // 2, width - m, height - 2), c.least, PAPER, align="centre", across=True)
