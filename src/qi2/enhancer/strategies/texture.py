"""Materials and surfaces left out."""

import re

import numpy as np

from qi2.enhancer.strategies.base import Degraded, Strategy, cut

_SURFACE = (
    r"(?:striped|dotted|shaded|glossy|matte|metallic|velvet|wooden|leather|creased|wrinkled|rough|smooth|polished|brushed|grainy|silky|woven|knitted|"
    r"marble|rusty|translucent|frosted|textured|embroidered|porous)"
)
PATTERNS = [
    re.compile(r"[,;]\s*(?P<v>[^,;.]*\b(?:textures?|grain|fabric|weave|surface)\b[^,;.]*)", re.I),
    re.compile(rf"\b(?P<v>{_SURFACE})(?:,)? (?=\w)", re.I),
]


def _apply(prompt: str, draw: np.random.Generator) -> Degraded | None:
    rest, values = cut(prompt, PATTERNS)
    return Degraded(rest, f"no texture is given: {', '.join(values)}", frozenset({"texture"})) if values else None


STRATEGY = Strategy("texture", "Leave out materials and surfaces.", _apply)
