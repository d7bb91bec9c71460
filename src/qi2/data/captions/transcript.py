"""The text caption (report 2.2): one line for the layout, then every piece of text in reading order with what and where it is.

``layout: a title over two lines``, then ``1. title, top: "MILK"`` and so on; or ``no text``.
"""

import re
from dataclasses import dataclass

from qi2.core.errors import QI2Error

NO_TEXT = "no text"
_ITEM = re.compile(r"^(?:\d+[.)]|[-*•])\s*(?P<what>[^:\"“”「«]*?)\s*[:：]\s*[\"“”「『«](?P<text>.*)[\"“”」』»]$")
_NOTE = re.compile(r"^(?:layout|symbols)\s*[:：]\s*\S", re.IGNORECASE)
_NOTHING = re.compile(r"no (?:readable |visible )?text\.?", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One piece of text exactly as written, and what and where it is, e.g. ``title, top``."""

    what: str
    text: str


def write_transcript(items: list[Item], layout: str = "") -> str:
    """The caption; ``no text`` without items."""
    if not items:
        return NO_TEXT
    head = [f"layout: {layout}"] if layout else []
    return "\n".join(head + [f'{number}. {item.what}: "{item.text}"' for number, item in enumerate(items, 1)])


def read_transcript(text: str) -> list[Item]:
    """The items of a caption in its order; raises QI2Error that names the first line that is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and _NOTHING.fullmatch(lines[0]):
        return []
    items = []
    for number, line in enumerate(lines, 1):
        if found := _ITEM.match(line):
            items.append(Item(found["what"], found["text"]))
        elif not _NOTE.match(line):
            raise QI2Error(f'line {number} is {line[:60]!r}; every line must read: 1. WHAT, WHERE: "TEXT", or start with layout: or symbols:')
    if not items:
        raise QI2Error(f"there is neither a quoted text nor the answer {NO_TEXT!r}; list the texts")
    return items
