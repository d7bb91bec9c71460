"""Exact places said as a relation: that one thing is left of the other is enough for a user, where both stand has to be inferred again."""

import re

import numpy as np

from qi2.enhancer.strategies.base import Degraded, Strategy, tidy

_PLACE = r"(?:(?:at|in) the )?(?P<{}>(?:top|bottom) (?:left|right))"
_THING = r"(?P<{}>(?:an? |the )?(?:[a-z]+ )?[a-z]+)"
_AFTER = re.compile(f"{_THING.format('a')} {_PLACE.format('pa')}(?:,| and) {_THING.format('b')} {_PLACE.format('pb')}")
_BEFORE = re.compile(f"{_PLACE.format('pa')} {_THING.format('a')}(?:,| and) {_PLACE.format('pb')} {_THING.format('b')}")
_RELATIONS = {("left", "right"): "left of", ("right", "left"): "right of", ("top", "bottom"): "above", ("bottom", "top"): "below"}


def _apply(prompt: str, draw: np.random.Generator) -> Degraded | None:
    found = _BEFORE.search(prompt) or _AFTER.search(prompt)
    relation = _relation(found["pa"], found["pb"]) if found else None
    if found is None or relation is None:
        return None
    text = f"{prompt[: found.start()]}{found['a']} {relation} {found['b']}{prompt[found.end() :]}"
    return Degraded(tidy(text), f"{relation} means {found['pa']} and {found['pb']}", frozenset({"places"}))


def _relation(one: str, other: str) -> str | None:
    """How the first place lies to the second; None where they share neither row nor column."""
    (row, column), (other_row, other_column) = one.split(), other.split()
    if (row == other_row) == (column == other_column):
        return None
    return _RELATIONS[(column, other_column) if row == other_row else (row, other_row)]


STRATEGY = Strategy("relate", "Say how things stand to each other instead of where each is.", _apply)
