"""Identity preservation and several references: how near the picture is to each of its reference images.

The answer is {"similarities": [one per reference]}, cosines of an image encoder. With several references the worst one counts too: a picture that
kept one subject and lost the other is far from that one.
"""

from qi2.evaluation.aggregate.base import Aggregator, Answer, Numbers, Options, overall
from qi2.evaluation.suites.row import Row


def measure(answer: Answer, row: Row, options: Options) -> Numbers:
    """``score``: mean over the references, and ``worst``, the least of them."""
    values = [float(value) for value in answer["similarities"]]
    return {"score": sum(values) / len(values), "worst": min(values)}


AGGREGATOR = Aggregator("similarity", "similarity", ("references",), measure, overall)
