"""Drawn parts that several kinds share."""

from qi2.data.pages.colors import RGB
from qi2.data.pages.compose import Composer
from qi2.data.pages.layout import Box


def title_height(c: Composer, share: float) -> int:
    """Height of a title's box: a share of the page, but at least two small lines and at most the page."""
    return min(max(round(share * c.size[1]), 3 * c.least), c.size[1] - 2 * c.margin)


def main_text(c: Composer, sentences: list[str], ground: RGB, title: Box, body: Box, size: int) -> None:
    """A title and running text under it, or in columns left of it on a vertical page; wide pages get two columns."""
    if c.vertical:
        title = (title[0], title[1], title[0] + max(2 * size, 3 * c.least, round(0.12 * c.size[0])), body[3])
        body = (title[2] + size // 2, title[1], body[2], body[3])
    c.text("title", c.write.titles(), title, round(1.7 * size), ground, c.theme.strong(ground), bold=True)
    gap = 2 * size
    if c.vertical or body[2] - body[0] < 40 * size:
        if c.prose("text", sentences, body, size, ground) is None:
            c.text("text", c.write.phrases(8), body, size, ground)
        return
    middle = (body[0] + body[2]) // 2
    c.prose("text", sentences, (body[0], body[1], middle - gap // 2, body[3]), size, ground)
    c.prose("text", sentences, (middle + gap // 2, body[1], body[2], body[3]), size, ground)


def emblem(c: Composer, box: Box) -> None:
    """One of a few simple drawings: bars, rings, mountains under a sun, or tiles."""
    (_bars, _rings, _mountains, _tiles)[int(c.rng.integers(4))](c, box)


def _bars(c: Composer, box: Box) -> None:
    n = int(c.rng.integers(3, 7))
    step = (box[2] - box[0]) / n
    for number in range(n):
        top = round(box[3] - c.rng.uniform(0.2, 1) * (box[3] - box[1]))
        color = c.theme.accent if number % 2 else c.theme.panel
        c.rectangle((round(box[0] + number * step), top, round(box[0] + (number + 0.75) * step), box[3]), color)


def _rings(c: Composer, box: Box) -> None:
    x, y, radius = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2, min(box[2] - box[0], box[3] - box[1]) // 2
    for share, color in ((1.0, c.theme.accent), (0.72, c.theme.panel), (0.4, c.theme.accent)):
        reach = round(share * radius)
        c.ellipse((x - reach, y - reach, x + reach, y + reach), color)


def _mountains(c: Composer, box: Box) -> None:
    width, height = box[2] - box[0], box[3] - box[1]
    sun = min(width, height) // 4
    x = box[0] + round(c.rng.uniform(0.1, 0.6) * width)
    c.ellipse((x, box[1], x + sun, box[1] + sun), c.theme.accent)
    for peak, left, right, color in ((0.3, 0.0, 0.65, c.theme.panel), (0.68, 0.35, 1.0, c.theme.accent)):
        top = box[1] + c.rng.uniform(0.25, 0.5) * height
        c.polygon([(box[0] + left * width, box[3]), (box[0] + peak * width, top), (box[0] + right * width, box[3])], color)


def _tiles(c: Composer, box: Box) -> None:
    side = max(4, min(box[2] - box[0], box[3] - box[1]) // 3)
    for row in range((box[3] - box[1]) // side):
        for column in range((box[2] - box[0]) // side):
            if c.rng.random() < 0.6:
                x, y = box[0] + column * side, box[1] + row * side
                draw = c.ellipse if c.rng.random() < 0.5 else c.rectangle
                draw((x, y, x + side - 2, y + side - 2), c.theme.accent if c.rng.random() < 0.5 else c.theme.panel)
