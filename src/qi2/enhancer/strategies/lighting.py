"""Lighting left out, or made vague."""

import re

import numpy as np

from qi2.enhancer.strategies.base import Degraded, Strategy, cut

_LIGHT = r"(?:light(?:ing|s)?|lit|shadows?|glow(?:ing)?|sun(?:light|set|rise|lit)|back-?lit|moonlight|neon|highlights?|golden hour|dusk|dawn|exposure|bokeh)"
PATTERNS = [
    re.compile(rf"[,;]\s*(?P<v>[^,;.]*\b{_LIGHT}\b[^,;.]*)", re.I),
    re.compile(rf"(?:^|(?<=\. ))(?P<v>[^,;.]*\b{_LIGHT}\b[^,;.]*)[,;.]", re.I),
    re.compile(rf"\b(?:under|in|with|by) (?P<v>(?:[\w-]+ ){{0,4}}{_LIGHT})\b", re.I),
]


def _apply(prompt: str, draw: np.random.Generator) -> Degraded | None:
    rest, values = cut(prompt, PATTERNS)
    return Degraded(rest, f"no lighting is given: {', '.join(values)}", frozenset({"lighting"})) if values else None


STRATEGY = Strategy("lighting", "Leave out or make vague how the scene is lit.", _apply, frozenset({"general", "portrait"}))
