"""A page of running text, up to about 1000 tokens (the report's longest prompts)."""

from qi2.data.pages.compose import Composer
from qi2.data.pages.kinds.parts import main_text, title_height

TOKENS = 1000


def draw_paragraph(c: Composer) -> None:
    """Draw it; half of the pages have the smallest letters and so the most text."""
    width, height, m = *c.size, c.margin
    size = c.least if c.rng.random() < 0.5 else c.body
    top = m + min(title_height(c, 0.1), 4 * size)
    main_text(c, c.write.prose(TOKENS), c.theme.ground, (m, m, width - m, top), (m, top + size // 2, width - m, height - m), size)
