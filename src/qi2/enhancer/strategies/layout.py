"""Places left out: where things stand in the picture is no longer said. Relations between things stay, they are intent."""

import re

import numpy as np

from qi2.enhancer.strategies.base import Degraded, Strategy, cut

_ROW, _COLUMN = r"(?:top|bottom|upper|lower|middle)", r"(?:left|right|centre|center|middle)"
_PLACE = rf"(?:{_ROW}[ -]{_COLUMN}|{_ROW}|centre|center)"
PATTERNS = [
    re.compile(rf",? ?\b(?:at|in|on|near) the (?P<v>{_PLACE}(?: corner| side| edge| half| third)?)\b(?: of the (?:image|picture|frame|page|canvas))?", re.I),
    re.compile(rf"\b(?P<v>{_ROW} {_COLUMN})\b", re.I),
    re.compile(rf"(?<=[A-Z]{{2}}) (?P<v>{_ROW})(?=,| and|$)"),
    re.compile(r",? ?\b(?P<v>in the (?:foreground|midground|distance|left third|right third))\b", re.I),
]


def _apply(prompt: str, draw: np.random.Generator) -> Degraded | None:
    rest, values = cut(prompt, PATTERNS)
    return Degraded(rest, f"no place is given: {' and '.join(values)}", frozenset({"position"})) if values else None


STRATEGY = Strategy("layout", "Leave out where things stand in the picture, but keep how they stand to each other.", _apply)
