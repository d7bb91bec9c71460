"""ImgEdit-Bench (Ye et al., 2025): the mean of three scores of 1..5 per picture; then per edit type, then over types.

The judge's answer is {"scores": {"compliance", "naturalness", "integrity"}}: prompt compliance, visual naturalness, physical and detail integrity.
A row's category is its edit type.
"""

from qi2.evaluation.aggregate.base import Aggregator, Answer, Numbers, Options, per_category
from qi2.evaluation.suites.row import Row

CRITERIA = {"compliance": (1, 5), "naturalness": (1, 5), "integrity": (1, 5)}


def measure(answer: Answer, row: Row, options: Options) -> Numbers:
    """``score`` and its three parts, 1..5."""
    parts = {name: float(answer["scores"][name]) for name in CRITERIA}
    return {"score": sum(parts.values()) / len(parts)} | parts


AGGREGATOR = Aggregator("imgedit", "judge", (), measure, per_category, scale=(1.0, 5.0))
