"""A receipt: shop, date, items with prices, and their true sum."""

from qi2.data.pages.colors import RGB
from qi2.data.pages.compose import Composer
from qi2.data.pages.kinds.parts import title_height

PAPER: RGB = (252, 251, 247)
INK: RGB = (40, 40, 44)
ITEMS = 12


def draw_receipt(c: Composer) -> None:
    """Draw it."""
    width, height, m = *c.size, c.margin
    side = max(0, (width - height) // 2) if width > 200 else 0
    left, right = side + m // 2, width - side - m // 2
    c.rectangle((0, 0, width, height), c.theme.panel)
    c.rectangle((left, m // 2, right, height - m // 2), PAPER)
    left, right = left + m, right - m
    top = title_height(c, 0.14)
    title = c.text("title", c.write.titles(), (left, m, right, m + top), round(1.5 * c.body), PAPER, INK, align="centre", bold=True)
    y = (title[3] if title else top) + c.body // 2
    if height >= 200:
        date = c.text("date", c.write.date(), (left, y, right, y + 2 * c.least), c.least, PAPER, INK, align="centre")
        y = (date[3] if date else y) + c.body // 2
    _items(c, left, right, y, height - m)


def _items(c: Composer, left: int, right: int, y: int, bottom: int) -> None:
    """Items as long as there is room for them and for the sum."""
    step, total = round(1.7 * c.body), 0
    split = left + round(0.6 * (right - left))
    for name in c.write.nouns(int(c.rng.integers(2, ITEMS + 1))):
        amount = int(c.rng.integers(1, 40)) * (50 if c.write.form.cents else 5)
        cells = (left, y, split - 4, y + step), (split, y, right, y + step)
        if y + 2 * step + step // 2 > bottom or not _line(c, ("item", name), ("price", c.write.price(amount)), *cells):
            break
        total, y = total + amount, y + step
    if total and y + step + step // 2 <= bottom:
        c.rectangle((left, y + step // 6, right, y + step // 6 + max(1, c.body // 12)), INK)
        y += step // 2
        _line(c, ("total label", c.write.label("total")), ("total", c.write.price(total)), (left, y, split - 4, y + step), (split, y, right, y + step))


def _line(c: Composer, name: tuple[str, str], price: tuple[str, str], first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> bool:
    """A name and a price; False, and nothing written, when one of them has no room."""
    bold = name[0] != "item"
    if c.text(*name, first, c.body, PAPER, INK, valign="middle", bold=bold) is None:
        return False
    if c.text(*price, second, c.body, PAPER, INK, align="end", valign="middle", bold=bold) is None:
        c.take_back()
        return False
    return True
