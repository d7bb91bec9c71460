"""An editing instruction said in as few words as its meaning allows: what the source picture shows need not be said (report section 3.3)."""

import re

import numpy as np

from qi2.enhancer.strategies.base import Degraded, Strategy, outside_quotes, tidy

_RULES = [
    (re.compile(r"\bchange the colou?r of (?:the )?(?P<a>[\w ]+?) to\b", re.I), r"\g<a> to"),
    (re.compile(r"\b(?:please|now|also|carefully|so that)\b\s*", re.I), ""),
    (re.compile(r"\btake (?:the )?(?P<a>[\w ]+?) and (?:put|add) it\b", re.I), r"\g<a>"),
    (re.compile(r"\b(?:from|in|of) the (?:first )?(?:image|picture|photo)\b", re.I), ""),
    (re.compile(r",? ?(?:while|and) (?:keeping?|leaving?|preserv\w+)\b[^.;]*", re.I), ""),
    (re.compile(r"\b(?:make|change|replace|put|move|turn) (?=\w)", re.I), ""),
    (re.compile(r"\b(?:an?|the|is|at)\b\s*", re.I), ""),
]


def _apply(prompt: str, draw: np.random.Generator) -> Degraded | None:
    def shorten(text: str) -> str:
        for pattern, short in _RULES:
            text = pattern.sub(short, text)
        return text

    rest = tidy(outside_quotes(prompt, shorten))
    return Degraded(rest, "short: say the whole change") if re.search(r"\w", rest) and rest != prompt else None


STRATEGY = Strategy("concise", "Say the editing instruction in as few words as its meaning allows.", _apply)
