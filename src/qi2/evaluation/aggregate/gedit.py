"""GEdit-Bench (Liu et al., 2025) by VIEScore (Ku et al., 2024): sqrt(semantics x quality), both 0..10, per picture; then mean per edit type, then over types.

The judge's answer is {"scores": {"semantics", "quality"}}; each may be a list of partial scores, of which the least counts, as in VIEScore.
A row's category is its edit type.
"""

import math
from typing import Any

from qi2.evaluation.aggregate.base import Aggregator, Answer, Numbers, Options, per_category
from qi2.evaluation.suites.row import Row

CRITERIA = {"semantics": (0, 10), "quality": (0, 10)}


def measure(answer: Answer, row: Row, options: Options) -> Numbers:
    """``score``, ``semantics`` and ``quality`` of 0..10."""
    semantics, quality = (_least(answer["scores"][name]) for name in CRITERIA)
    return {"score": math.sqrt(semantics * quality), "semantics": semantics, "quality": quality}


def _least(value: Any) -> float:
    return float(min(value)) if isinstance(value, list) else float(value)


AGGREGATOR = Aggregator("gedit", "judge", (), measure, per_category, scale=(0.0, 10.0))
