"""LongText-Bench (Geng et al., 2025): the share of asked-for words (Chinese: characters) that were read, each as often as asked for, in any order.

Rows as in `text`; the answer is {"lines": [...]}. The score is the mean over prompts.
"""

from qi2.evaluation.aggregate.base import Aggregator, Answer, Numbers, Options, overall
from qi2.evaluation.aggregate.strings import shared, words
from qi2.evaluation.aggregate.text import check, language, target
from qi2.evaluation.suites.row import Row


def measure(answer: Answer, row: Row, options: Options) -> Numbers:
    """``score``: multiset recall."""
    asked = words(target(row), language(row))
    return {"score": shared(asked, words(" ".join(answer["lines"]), language(row))) / len(asked)}


AGGREGATOR = Aggregator("longtext", "ocr", ("text",), measure, overall, check)
