"""LongText-Bench (Geng et al., 2025): the share of asked-for words (Chinese: characters) that were read, each as often as asked for, in any order.

Rows as in `text`; the answer is {"lines": [...]}. The share is one over all prompts, so that a long text counts for more, as in the published script.
"""

from qi2.evaluation.aggregate.base import Aggregator, Answer, Numbers, Options, Table
from qi2.evaluation.aggregate.strings import shared, words
from qi2.evaluation.aggregate.text import check, language, target
from qi2.evaluation.suites.row import Row


def measure(answer: Answer, row: Row, options: Options) -> Numbers:
    """``read`` of the ``asked`` words."""
    asked = words(target(row), language(row))
    return {"read": shared(asked, words(" ".join(answer["lines"]), language(row))), "asked": len(asked)}


def combine(table: Table, options: Options) -> Numbers:
    """``score`` over all prompts, and the same by category."""
    read, asked = table.by_category("read"), table.by_category("asked")
    return {"score": table.total("read") / table.total("asked")} | {name: value / asked[name] for name, value in read.items()}


AGGREGATOR = Aggregator("longtext", "ocr", ("text",), measure, combine, check)
