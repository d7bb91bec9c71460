"""WISE_Verified (Niu et al.): does the picture show what has to be known, right or wrong; 0.40 culture and 0.12 each of five sciences.

The judge's answer is {"scores": {"correct": 0 or 1}}. A row's category is its domain.
"""

from qi2.evaluation.aggregate.base import Aggregator, Answer, Numbers, Options, Table
from qi2.evaluation.suites.row import Row

WEIGHTS = {"cultural": 0.40, "time": 0.12, "space": 0.12, "biology": 0.12, "physics": 0.12, "chemistry": 0.12}
CRITERIA = {"correct": (0, 1)}


def measure(answer: Answer, row: Row, options: Options) -> Numbers:
    """``score``: 1 or 0."""
    return {"score": float(answer["scores"]["correct"])}


def combine(table: Table, options: Options) -> Numbers:
    """``score``: the weighted mean; over a part of the domains, with their weights scaled to sum to one."""
    means = table.by_category("score")
    weights = {name: WEIGHTS[name.removeprefix("by_category/")] for name in means}
    return {"score": sum(weights[name] * value for name, value in means.items()) / sum(weights.values())} | means


def check(row: Row) -> str:
    """A known domain."""
    return "" if row.category in WEIGHTS else f"category {row.category!r} is no domain; choose {', '.join(WEIGHTS)}"


AGGREGATOR = Aggregator("wise", "judge", (), measure, combine, check)
