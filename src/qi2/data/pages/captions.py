"""Captions of a page in English, its texts quoted in their own script (report 2.2: general, text and structured captions)."""

import json

from qi2.data.pages.languages import LANGUAGES
from qi2.data.pages.page import Block, Page

_NAMES = {"book": "page of a book", "paragraph": "page of text", "comic": "comic page", "infographic": "infographic with bars"}
_ROWS, _COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
_DIRECTIONS = {"ltr": "", "rtl": ", written from right to left", "ttb": ", written in columns from right to left"}


def general_caption(page: Page) -> str:
    """Kind, language and title, e.g. ``a slide in German titled “Brot und Milch”``."""
    name = _NAMES.get(page.kind, page.kind)
    return f"{_article(name)} {name} in {LANGUAGES[page.language].name} titled “{page.title}”"


def text_caption(page: Page) -> str:
    """All texts verbatim in reading order, each with its role and place."""
    name = _NAMES.get(page.kind, page.kind)
    start = f"{_article(name).capitalize()} {name} in {LANGUAGES[page.language].name}{_DIRECTIONS[page.blocks[-1].direction]}."
    return " ".join([start, *(f"{block.role.capitalize()} at the {place(block, page)}: “{block.text}”." for block in page.blocks)])


def structured_caption(page: Page) -> str:
    """JSON: kind, language, and per block its order, role, text, direction and box (left, top, right, bottom) relative to the page, 0 to 1."""
    width, height = page.size
    blocks = [
        {
            "order": order,
            "role": block.role,
            "text": block.text,
            "direction": block.direction,
            "box": [round(edge / side, 3) for edge, side in zip(block.box, (width, height, width, height), strict=True)],
        }
        for order, block in enumerate(page.blocks)
    ]
    return json.dumps({"kind": page.kind, "language": LANGUAGES[page.language].name, "blocks": blocks}, ensure_ascii=False)


def place(block: Block, page: Page) -> str:
    """Where the middle of a block lies, e.g. ``top left``; the middle cell is ``centre``."""
    x, y = (block.box[0] + block.box[2]) / 2 / page.size[0], (block.box[1] + block.box[3]) / 2 / page.size[1]
    row, column = _ROWS[min(2, int(3 * y))], _COLUMNS[min(2, int(3 * x))]
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def _article(name: str) -> str:
    return "an" if name[0] in "aeio" else "a"
