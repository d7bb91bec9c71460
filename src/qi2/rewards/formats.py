"""Formats of preference tables: what a line of each says, as rows of ours.

A new format is one function, one line in `FORMATS` and one test. ``better``, ``labels`` and ``scores`` are ours; the others are those that
the public data sets of these names have (the keys are theirs, our reward for each of their questions is a choice that
``rewards.dimensions`` changes).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from qi2.core.errors import QI2Error
from qi2.rewards.config import DIMENSIONS

EXAMPLE = '{"prompt": "a red cube", "better": "a.png", "worse": "b.png", "dimension": "alignment"}'
WORDS = {"a": 1, "first": 1, "1": 1, "+1": 1, "1.0": 1, "b": -1, "second": -1, "-1": -1, "-1.0": -1, "same": 0, "tie": 0, "0": 0, "0.0": 0}


@dataclass(frozen=True)
class TableRow:
    """Judgements of two pictures (1: the first is preferred, -1, 0) or of one (its score), by dimension; pictures are paths or file bytes.

    ``name`` says where it stands, for messages; ``confidence`` is the annotators' agreement, 0..1.
    """

    name: str
    prompt: str
    pictures: tuple[Any, ...]
    sources: tuple[Any, ...]
    labels: Mapping[str, float]
    confidence: float = 1.0


@dataclass(frozen=True)
class Format:
    """``needs``: keys by which it is known. ``asked``: the reward for which each of its questions counts, none where that is empty."""

    needs: frozenset[str]
    rows: Callable[[Mapping[str, Any], str], Iterator[TableRow]]
    asked: Mapping[str, str] = field(default_factory=lambda: {name: name for name in DIMENSIONS})


def better(values: Mapping[str, Any], name: str) -> Iterator[TableRow]:
    """prompt, better, worse, dimension and, for an edit, source (one or a list)."""
    yield _row(values, name, ("better", "worse"), {str(values["dimension"]): 1})


def labels(values: Mapping[str, Any], name: str) -> Iterator[TableRow]:
    """prompt, first, second, source; under each dimension's name 1, -1 or 0, or A, B or same."""
    given = {key: label(values[key], name, key) for key in DIMENSIONS if _given(values.get(key))}
    yield _row(values, name, ("first", "second"), given)


def scores(values: Mapping[str, Any], name: str) -> Iterator[TableRow]:
    """prompt, image, source; under each dimension's name the picture's score, a number of any range."""
    yield _row(values, name, ("image",), {key: number(values[key], name, key) for key in DIMENSIONS if _given(values.get(key))})


def editreward(values: Mapping[str, Any], name: str) -> Iterator[TableRow]:
    """EditReward-Data: path1 is preferred to path2 (or tie_case); both have scores for following the instruction and for quality."""
    given = {"overall": 0.0 if values.get("tie_case") else 1.0}
    for key in ("dim1", "dim2"):
        both = [values.get(f"model{side}_{key}_score") for side in (1, 2)]
        if all(map(_given, both)):
            given[key] = _sign(number(both[0], name, key) - number(both[1], name, key))
    yield _row({**values, "source": values["path_src"]}, name, ("path1", "path2"), given)


def hpdv3(values: Mapping[str, Any], name: str) -> Iterator[TableRow]:
    """HPDv3: path1 is preferred to path2, unless as many annotators chose either (choice_dist)."""
    chosen = values.get("choice_dist")
    tied = isinstance(chosen, Sequence) and len(chosen) == 2 and chosen[0] == chosen[1]
    yield _row(values, name, ("path1", "path2"), {"overall": 0 if tied else 1})


def hpdv2(values: Mapping[str, Any], name: str) -> Iterator[TableRow]:
    """HPDv2: image_path or file_path are several pictures, with human_preference (higher is better) or rank (lower is better)."""
    pictures = values.get("image_path") or values.get("file_path")
    rank = values.get("rank")
    order = [-number(value, name, "human_preference") for value in values["human_preference"]] if rank is None else rank
    yield from _ranked(values, name, pictures, order)


def imagereward(values: Mapping[str, Any], name: str) -> Iterator[TableRow]:
    """ImageReward: generations with their ranking, lower is better."""
    yield from _ranked(values, name, values["generations"], values["ranking"])


def videoalign(values: Mapping[str, Any], name: str) -> Iterator[TableRow]:
    """VideoAlign: path_A, path_B and A, B or same for visual quality (VQ), motion quality (MQ) and text alignment (TA); of pictures, not videos."""
    given = {key: label(values[key], name, key) for key in ("VQ", "MQ", "TA") if _given(values.get(key))}
    yield _row(values, name, ("path_A", "path_B"), given)


FORMATS = {
    "better": Format(frozenset({"better", "worse", "dimension"}), better),
    "labels": Format(frozenset({"first", "second"}), labels),
    "scores": Format(frozenset({"image"}), scores),
    "editreward": Format(frozenset({"path_src", "path1", "path2"}), editreward, {"dim1": "instruction", "dim2": "consistency", "overall": ""}),
    "hpdv3": Format(frozenset({"path1", "path2"}), hpdv3, {"overall": "alignment"}),
    "hpdv2": Format(frozenset({"human_preference"}), hpdv2, {"overall": "alignment"}),
    "hpdv2_ranks": Format(frozenset({"rank", "image_path"}), hpdv2, {"overall": "alignment"}),
    "imagereward": Format(frozenset({"generations", "ranking"}), imagereward, {"overall": "alignment"}),
    "videoalign": Format(frozenset({"path_A", "path_B"}), videoalign, {"VQ": "aesthetic", "MQ": "", "TA": "alignment"}),
}
"""In the order in which they are tried: a table that has the keys of two is of the first."""


def recognise(keys: Sequence[str], name: str) -> str:
    """The format of a line with these keys. Raises QI2Error that says what each format needs."""
    for kind, found in FORMATS.items():
        if found.needs <= set(keys):
            return kind
    known = "; ".join(f"{kind}: {', '.join(sorted(found.needs))}" for kind, found in FORMATS.items())
    raise QI2Error(f"{name} has the keys {', '.join(keys)}, which are of no known format ({known}); write for example {EXAMPLE}")


def label(value: Any, name: str, key: str) -> float:
    """1, -1 or 0 of what an annotator said. Raises QI2Error that names the row and the column."""
    word = str(value).strip().lower()
    if word not in WORDS:
        raise QI2Error(f"{name}: {key} is {value!r}; a label is 1, -1 or 0, A, B or same, or first, second or tie")
    return float(WORDS[word])


def number(value: Any, name: str, key: str) -> float:
    """A finite number. Raises QI2Error that names the row and the column."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise QI2Error(f"{name}: {key} is {value!r}; give a number")
    return found


def _row(values: Mapping[str, Any], name: str, keys: Sequence[str], given: Mapping[str, float]) -> TableRow:
    return _make(values, name, [values.get(key) for key in keys], given)


def _make(values: Mapping[str, Any], name: str, pictures: Sequence[Any], given: Mapping[str, float]) -> TableRow:
    if not isinstance(values.get("prompt"), str):
        raise QI2Error(f"{name}: prompt is {values.get('prompt')!r}; give a text, for example {EXAMPLE}")
    source = values.get("source")
    sources = [] if not _given(source) else list(source) if isinstance(source, list | tuple) else [source]
    agreed = values.get("confidence")
    return TableRow(
        name,
        values["prompt"],
        tuple(_picture(value, name) for value in pictures),
        tuple(_picture(value, name) for value in sources),
        given,
        number(agreed, name, "confidence") if _given(agreed) else 1.0,
    )


def _ranked(values: Mapping[str, Any], name: str, pictures: Any, order: Any) -> Iterator[TableRow]:
    """Every two of several pictures of one prompt; equal ranks are a tie."""
    if not isinstance(pictures, list | tuple) or not isinstance(order, list | tuple) or len(pictures) != len(order) or len(order) < 2:
        raise QI2Error(f"{name}: {pictures!r} are not as many pictures, two or more, as there are ranks, {order!r}")
    ranks = [number(value, name, "rank") for value in order]
    for one, two in combinations(range(len(ranks)), 2):
        yield _make(values, name, (pictures[one], pictures[two]), {"overall": _sign(ranks[two] - ranks[one])})


def _picture(value: Any, name: str) -> str | bytes:
    """A path or bytes; the datasets library's {"bytes", "path"} is taken apart."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, str | bytes) or not value:
        raise QI2Error(f"{name}: a picture is {value!r}; pictures and sources are paths or file bytes, for example {EXAMPLE}")
    return value


def _given(value: Any) -> bool:
    return value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))


def _sign(value: float) -> float:
    return float((value > 0) - (value < 0))
