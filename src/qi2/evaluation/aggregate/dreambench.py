"""DreamBench++ (Peng et al., 2024): is the subject of the references kept, and is the instruction followed? Both 0..4, and the product of their means.

The judge's answer is {"scores": {"preservation", "following"}}. A picture that copies its reference keeps all and follows nothing, one that ignores it
the other way round: neither gains by the product. A row's category is the kind of task.
"""

from qi2.evaluation.aggregate.base import Aggregator, Answer, Numbers, Options, Table
from qi2.evaluation.suites.row import Row

CRITERIA = {"preservation": (0, 4), "following": (0, 4)}
MOST = 4


def measure(answer: Answer, row: Row, options: Options) -> Numbers:
    """``preservation`` and ``following`` as shares of the scale, 0..1; ``score`` is their product on this one picture."""
    parts = {name: float(answer["scores"][name]) / MOST for name in CRITERIA}
    return {"score": parts["preservation"] * parts["following"]} | parts


def combine(table: Table, options: Options) -> Numbers:
    """``score``: mean preservation times mean following, over all prompts; both alone; ``by_category/NAME``: the product within a category."""
    parts = {name: table.mean(name) for name in CRITERIA}
    kept, followed = (table.by_category(name) for name in CRITERIA)
    return {"score": parts["preservation"] * parts["following"]} | parts | {name: kept[name] * followed[name] for name in kept}


AGGREGATOR = Aggregator("dreambench", "judge", ("references",), measure, combine)
