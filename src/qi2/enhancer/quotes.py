"""Texts to be shown go through the language model as marks, ``<text1>``, ``<text2>``, and come back as they were: no model can misspell them."""

import re
from collections.abc import Sequence

from qi2.enhancer.strategies.base import QUOTED

MOST = 16  # texts of one prompt that get a mark; any further ones stay as they are
MARKS = tuple(f"<text{i + 1}>" for i in range(MOST))
_MARK = re.compile(r"<text(\d+)>")


def mask(prompt: str, texts: Sequence[str] = ()) -> tuple[str, list[str]]:
    """The prompt with a mark for every text to be shown, and the texts in order; ``texts`` are those that have a mark already."""
    found = list(texts)

    def mark(match: re.Match[str]) -> str:
        if match[0] not in found and len(found) < MOST:
            found.append(match[0])
        return MARKS[found.index(match[0])] if match[0] in found else match[0]

    return QUOTED.sub(mark, prompt), found


def unmask(text: str, texts: Sequence[str]) -> str:
    """Inverse of ``mask``; a mark that stands for nothing goes."""
    return _MARK.sub(lambda match: texts[int(match[1]) - 1] if 1 <= int(match[1]) <= len(texts) else "", text)
