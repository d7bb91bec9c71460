"""An infographic: labelled bars with their numbers; the length of a bar is in proportion to its number."""

from qi2.data.pages.compose import Composer
from qi2.data.pages.kinds.parts import title_height

ROWS = 9


def draw_infographic(c: Composer) -> None:
    """Draw it."""
    width, height, m = *c.size, c.margin
    top = title_height(c, 0.16) + m
    c.text("title", c.write.titles(), (m, m, width - m, top), 2 * c.body, c.theme.ground, c.theme.strong(c.theme.ground), bold=True)
    labels = c.write.nouns(ROWS)
    rows = min(int(c.rng.integers(3, ROWS + 1)), (height - m - top - m // 2) // (2 * c.body))
    if rows < 1:
        return
    step = min((height - m - top - m // 2) // rows, 5 * c.body)
    values = c.rng.integers(5, 100, rows)
    percent = c.write.form.percent if c.rng.random() < 0.5 else ""
    for number, value in enumerate(values):
        y = top + m // 2 + number * step
        _row(c, labels[number], c.write.number(f"{value}{percent}"), value / values.max(), y, y + step - max(2, step // 6))


def _row(c: Composer, label: str, value: str, share: float, top: int, bottom: int) -> None:
    width, m = c.size[0], c.margin
    start, number = round(0.36 * width), 3 * c.body
    c.text("label", label, (m, top, start - 4, bottom), c.body, c.theme.ground, valign="middle")
    end = start + max(2, round(share * (width - m - number - start)))
    c.rectangle((start, top + 1, end, bottom - 1), c.theme.accent, radius=(bottom - top) // 5)
    c.text("value", value, (end + 4, top, width - m, bottom), c.body, c.theme.ground, valign="middle", bold=True)
