"""The aggregators by name; a formula is one file and one line here."""

from qi2.evaluation.aggregate import dpg, dreambench, gedit, geneval, imgedit, longtext, oneig_text, similarity, text, wise
from qi2.evaluation.aggregate.base import Aggregator

AGGREGATORS: dict[str, Aggregator] = {
    module.AGGREGATOR.name: module.AGGREGATOR for module in (geneval, dpg, text, longtext, oneig_text, gedit, imgedit, dreambench, wise, similarity)
}
CRITERIA: dict[str, dict[str, tuple[int, int]]] = {
    "gedit": gedit.CRITERIA,
    "imgedit": imgedit.CRITERIA,
    "dreambench": dreambench.CRITERIA,
    "wise": wise.CRITERIA,
}
"""What a judge is asked for, and the range of each answer, by aggregator."""
