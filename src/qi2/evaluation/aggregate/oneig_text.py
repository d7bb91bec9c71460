"""OneIG-Bench's text score (Chang et al., 2025): 1 - min(M, ED) (1 - CR) (1 - WAC) / M.

ED is the mean edit distance in characters, CR the share of pictures without any error, WAC the share of all asked-for words (Chinese: characters) that
were read; all three over the whole suite, so that one long text counts for more. M is 100, or 50 for Chinese. Rows as in `text`.
"""

import numpy as np

from qi2.evaluation.aggregate.base import Aggregator, Answer, Numbers, Options, Table
from qi2.evaluation.aggregate.strings import edit_distance, normalise, shared, words
from qi2.evaluation.aggregate.text import check, language, target
from qi2.evaluation.suites.row import Row

MOST = {"zh": 50.0}
MOST_ELSEWHERE = 100.0


def measure(answer: Answer, row: Row, options: Options) -> Numbers:
    """``distance``, ``complete``, ``read`` and ``asked`` words, and ``most``, the M of the row's language."""
    read, wanted, code = " ".join(answer["lines"]), target(row), language(row)
    asked, distance = words(wanted, code), edit_distance(normalise(wanted), normalise(read))
    most = MOST.get(code, MOST_ELSEWHERE)
    return {"distance": distance, "complete": float(distance == 0), "read": shared(asked, words(read, code)), "asked": len(asked), "most": most}


def combine(table: Table, options: Options) -> Numbers:
    """``score`` and its three parts."""
    distance, complete, most = table.mean("distance"), table.mean("complete"), table.mean("most")
    accuracy = table.total("read") / table.total("asked")
    score = 1 - np.minimum(most, distance) * (1 - complete) * (1 - accuracy) / most
    return {"score": score, "edit_distance": distance, "completion": complete, "word_accuracy": accuracy}


AGGREGATOR = Aggregator("oneig-text", "ocr", ("text",), measure, combine, check)
