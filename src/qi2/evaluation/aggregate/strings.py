"""Texts as they are compared: normalised, cut into words or characters, and the edit distance between them. Torch-free."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

UNSPACED = ("zh", "ja", "th", "lo", "km", "my")  # languages that put no spaces between words


def normalise(text: str) -> str:
    """Letters, marks and digits alone, without case, single spaces, compatible forms made one (NFKC): what LongText-Bench does, for all scripts."""
    letters = ((letter, unicodedata.category(letter)[0]) for letter in unicodedata.normalize("NFKC", text).casefold())
    return " ".join("".join(" " if kind in "ZC" else letter for letter, kind in letters if kind in "LMNZC").split())


def words(text: str, language: str = "en") -> list[str]:
    """Words of a normalised text; of a language without spaces, its characters."""
    return characters(text) if language in UNSPACED else normalise(text).split()


def characters(text: str) -> list[str]:
    """Characters of a normalised text, without spaces."""
    return list(normalise(text).replace(" ", ""))


def shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts two texts have in common, each as often as it stands in both."""
    return (Counter(one) & Counter(other)).total()


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Fewest insertions, deletions and replacements that make one of the other (Levenshtein)."""
    codes = {part: number for number, part in enumerate(dict.fromkeys((*one, *other)))}
    right = np.array([codes[part] for part in other], dtype=np.int64)
    steps = np.arange(len(other) + 1)
    line = steps.copy()
    for part in one:
        best = np.minimum(line[1:] + 1, line[:-1] + (right != codes[part]))  # without insertions
        line = np.minimum.accumulate(np.concatenate([[line[0] + 1], best]) - steps) + steps  # an insertion costs one a step
    return int(line[-1])
