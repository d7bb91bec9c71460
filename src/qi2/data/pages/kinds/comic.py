"""A comic: a title strip and panels, each with a figure and a speech bubble."""

from qi2.data.pages.colors import RGB
from qi2.data.pages.compose import Composer
from qi2.data.pages.kinds.parts import title_height
from qi2.data.pages.layout import Box

PANEL = 200  # smallest side in pixels where there is more than one,
LETTERS = 10  # and in ems
BUBBLE: RGB = (255, 255, 255)


def draw_comic(c: Composer) -> None:
    """Draw it. Panels follow each other in the direction of reading."""
    width, height, m = *c.size, c.margin
    gap, top = max(3, m // 2), title_height(c, 0.12)
    c.text("title", c.write.titles(), (m, m, width - m, top), round(1.8 * c.body), c.theme.ground, valign="middle", bold=True, across=True)
    top += gap
    side = max(PANEL, LETTERS * c.body)
    columns, rows = max(1, min(3, (width - 2 * m) // side)), max(1, min(4, (height - top - m) // side))
    across, down = (width - 2 * m + gap) / columns, (height - m - top + gap) / rows
    words = c.write.phrases(rows * columns)
    for row in range(rows):
        for column in range(columns):
            x, y = round(m + column * across), round(top + row * down)
            _panel(c, (x, y, round(x + across - gap), round(y + down - gap)), words.pop() if words else c.write.sentence())


def _panel(c: Composer, box: Box, phrase: str) -> None:
    left, top, right, bottom = box
    c.rectangle(box, c.theme.panel, outline=c.theme.ink(c.theme.panel), width=max(1, c.margin // 8))
    width, height, pad = right - left, bottom - top, max(4, c.body // 2)
    head = max(2, min(width, height) // 6)
    x = left + round(c.rng.uniform(0.25, 0.75) * width)
    inner = (left + 2 * pad, top + 2 * pad, right - 2 * pad, bottom - 2 * pad - 3 * head)
    options = [c.write.sentence(), phrase] if c.rng.random() < 0.5 else [phrase]
    words = (
        c.text("speech", options, inner, round(1.3 * c.body), BUBBLE, (20, 20, 20), align="centre", valign="middle") if inner[3] - inner[1] > c.least else None
    )
    if words:
        bubble = (max(left + 2, words[0] - pad), words[1] - pad, min(right - 2, words[2] + pad), words[3] + pad)
        tail = min(max(x, bubble[0] + pad), bubble[2] - pad)
        tip = (tail + x) / 2, min(bubble[3] + 1.5 * c.body, bottom - 2.6 * head)
        c.polygon([(tail - pad / 2, bubble[3] - 2), (tail + pad / 2, bubble[3] - 2), tip], BUBBLE)
        c.rectangle(bubble, BUBBLE, radius=2 * pad)
    _figure(c, x, bottom, head)


def _figure(c: Composer, x: int, bottom: int, head: int) -> None:
    """A head with eyes over round shoulders."""
    c.rectangle((x - head, bottom - head, x + head, bottom - 1), c.theme.accent, radius=head // 2)
    c.ellipse((x - head * 3 // 4, bottom - head * 5 // 2, x + head * 3 // 4, bottom - head), (240, 205, 170))
    eye = max(1, head // 8)
    for side in (-1, 1):
        c.ellipse((x + side * head // 3 - eye, bottom - 2 * head, x + side * head // 3 + eye, bottom - 2 * head + 2 * eye), (30, 30, 30))
