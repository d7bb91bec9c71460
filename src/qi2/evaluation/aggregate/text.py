"""Text rendering: how much of the asked-for text a reader finds in the picture.

The answer is {"lines": [...]}, what was read in reading order. A row has ``text``, one string or several, and ``language`` (en by default).
All numbers are shares, 1 is perfect, on normalised texts (`strings.normalise`):

- ``score``, word accuracy: asked-for words that were read, each as often as asked for (as in CVTG-2K); characters where a language has no spaces.
- ``character_accuracy``: 1 - edit distance / asked-for characters, at least 0 (one less the character error rate).
- ``ned``: 1 - edit distance / the longer one's characters, the normalised edit similarity of text spotting and CVTG-2K.
- ``exact``: nothing but the asked-for text was read.
"""

from qi2.evaluation.aggregate.base import Aggregator, Answer, Numbers, Options, overall
from qi2.evaluation.aggregate.strings import characters, edit_distance, shared, words
from qi2.evaluation.suites.row import Row


def target(row: Row) -> str:
    """All that is asked for, in order."""
    text = row.truth["text"]
    return text if isinstance(text, str) else " ".join(text)


def language(row: Row) -> str:
    """The row's language."""
    return str(row.truth.get("language", "en"))


def measure(answer: Answer, row: Row, options: Options) -> Numbers:
    """The four shares of the module's text."""
    read, wanted = " ".join(answer["lines"]), target(row)
    asked, letters, seen = words(wanted, language(row)), characters(wanted), characters(read)
    distance = edit_distance(letters, seen)
    return {
        "score": shared(asked, words(read, language(row))) / len(asked),
        "character_accuracy": max(0.0, 1 - distance / len(letters)),
        "ned": 1 - distance / max(len(letters), len(seen)),
        "exact": float(distance == 0),
    }


def check(row: Row) -> str:
    """Text with at least one letter or digit."""
    text = row.truth["text"]
    if not isinstance(text, str) and not (isinstance(text, list) and all(isinstance(one, str) for one in text)):
        return f"text is {text!r}; give one string or a list of them"
    return "" if characters(target(row)) else f"text {text!r} has no letter or digit to be read"


AGGREGATOR = Aggregator("text", "ocr", ("text",), measure, overall, check)
