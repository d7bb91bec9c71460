"""Search words instead of sentences: articles and small words are left out."""

import re

import numpy as np

from qi2.enhancer.strategies.base import Degraded, Strategy, outside_quotes, tidy

_SMALL = re.compile(r"\b(?:an?|the|is|are|there|at|that|which|very|some)\b\s*|(?<=\w),(?=\s)", re.I)


def _apply(prompt: str, draw: np.random.Generator) -> Degraded | None:
    rest = tidy(outside_quotes(prompt, lambda text: _SMALL.sub("", text)))
    return Degraded(rest, "search words: say a sentence") if rest not in ("", tidy(prompt)) else None


STRATEGY = Strategy("terse", "Write search words instead of sentences.", _apply)
