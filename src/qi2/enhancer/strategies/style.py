"""Stylistic simplification: medium, quality and manner are no longer named."""

import re

import numpy as np

from qi2.enhancer.strategies.base import Degraded, Strategy, cut

_MEDIUM = r"(?:image|picture|photo(?:graph)?|illustration|painting|drawing|render(?:ing)?|portrait|poster|sketch)"
_MANNER = (
    r"(?:photo-?realistic|hyper-?realistic|cinematic|high[- ]resolution|ultra[- ]detailed|highly detailed|4k|8k|hdr|masterpiece|best quality|"
    r"water-?colou?r|oil painting|anime|minimalist|vintage|surreal|pixel art|low poly|flat design)"
)
PATTERNS = [
    re.compile(rf"^(?P<v>an? (?:[\w-]+ ){{0,3}}{_MEDIUM}) of\b", re.I),
    re.compile(r"^(?P<v>there (?:is|are))\b", re.I),
    re.compile(r"[,;]\s*(?P<v>(?:in the style of|in)\b[^,;.]*\bstyle\b[^,;.]*|in the style of [^,;.]*)", re.I),
    re.compile(rf"[,;]\s*(?P<v>[^,;.]*\b{_MANNER}\b[^,;.]*)", re.I),
    re.compile(rf"\b(?P<v>{_MANNER}) (?=\w)", re.I),
]


def _apply(prompt: str, draw: np.random.Generator) -> Degraded | None:
    rest, values = cut(prompt, PATTERNS)
    return Degraded(rest, f"no style is given: {', '.join(values)}", frozenset({"style"})) if values else None


STRATEGY = Strategy("style", "Leave out medium, style and quality words.", _apply)
