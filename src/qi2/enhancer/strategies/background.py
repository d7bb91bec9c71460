"""Background left out: the generator has to choose one."""

import re

import numpy as np

from qi2.enhancer.strategies.base import Degraded, Strategy, cut

_SCENERY = r"(?:background|backdrop|sky|wall|skyline|horizon|scenery)"
PATTERNS = [
    re.compile(r",? ?\bthe background is (?P<v>[a-z][\w -]*)", re.I),
    re.compile(r",? ?\b(?:on|against|before|in front of|set against) (?:an?|the) (?P<v>[\w -]{1,60}? ?" + _SCENERY + r")\b", re.I),
    re.compile(r"^(?:an?|the) (?P<v>[\w -]{1,40}? background) with\b", re.I),
    re.compile(r"^(?P<v>[\w-]+(?: [\w-]+)? background)(?:,| with\b)", re.I),
    re.compile(r",\s*(?P<v>[\w -]{1,40}? " + _SCENERY + r")(?=[,.;]|$)", re.I),
    re.compile(r"[,;]\s*(?P<v>[^,;.]{0,80}\bin the background)(?=[,;.]|$)", re.I),
    re.compile(r"(?:(?<=,)|^|(?<= )),? ?on (?P<v>(?:striped |dotted |shaded )?(?:white|grey|pink|mint))(?=,|$)", re.I),
]


def _apply(prompt: str, draw: np.random.Generator) -> Degraded | None:
    rest, values = cut(prompt, PATTERNS)
    if not values:
        return None
    what = " and ".join(dict.fromkeys(re.sub(r"\s*background$", "", value) for value in values))
    return Degraded(rest, f"no background is given: {what}", frozenset({"background", "texture"}))


STRATEGY = Strategy("background", "Leave out what stands behind the subject.", _apply)
