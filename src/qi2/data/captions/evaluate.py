"""How true captions are, measured on the procedural world, whose scenes are known exactly. It measures any captioner, in any language that has words.

Every figure is a ratio of sums over captions that passed their check, with a 95 % interval from resampling pictures:
``stated``: facts of the scene that the caption states; ``false``: stated facts that do not hold (of the world's own vocabulary, see ``reading``);
``cer``: letters to change, add or leave out per true letter; ``order``: captions with all texts, exactly, in reading order;
``entities_*`` and ``relations_*``: precision, recall and F1 of what the JSON lists; ``exact``: captions whose entities, relations and texts are
all right; ``kept``: words of the given facts that the caption has.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.core.rng import numpy_rng
from qi2.data.captions.answers import OK
from qi2.data.captions.facts import facts as facts_of
from qi2.data.captions.facts import true_facts
from qi2.data.captions.graph import spatial_relations, structured_truth
from qi2.data.captions.reading import stated
from qi2.data.captions.structured import Structured
from qi2.data.captions.transcript import read_transcript
from qi2.data.captions.truth import text as true_text
from qi2.data.world.scene import Scene

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 1000
_TURNED = {"right of": "left of", "below": "above"}
Counts = dict[str, tuple[float, float]]  # figure: (part, whole) of one caption
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A ratio with its 95 % interval, over ``captions`` captions."""

    value: float
    low: float
    high: float
    captions: int


def evaluate(captions: "pd.DataFrame", scenes: Mapping[str, Scene], facts: Mapping[str, str], seed: int = 0) -> dict[str, Figure]:
    """``SCHEME/LANGUAGE-or-all/FIGURE`` for the captions (columns of ``run.caption``) of pictures whose scene is known."""
    counted: dict[str, list[tuple[str, tuple[float, float]]]] = {}
    rows: list[dict[str, Any]] = captions[captions["status"] == OK].to_dict("records")  # type: ignore[assignment]
    for row in rows:
        if row["id"] in scenes:
            for name, count in COUNTERS[row["scheme"]](row, scenes[row["id"]], facts.get(row["id"], "")).items():
                counted.setdefault(f"{row['scheme']}/{row['language'] or 'all'}/{name}", []).append((row["id"], count))
    return _with_f1({name: _ratio(counts, seed) for name, counts in sorted(counted.items())})


def _prose(row: Record, scene: Scene, given: str) -> Counts:
    found, wanted = stated(row["caption"], row["language"]), facts_of(scene)
    return {"stated": (len(found & wanted), len(wanted)), "false": (len(found - true_facts(scene)), len(found))}


def _knowledge(row: Record, scene: Scene, given: str) -> Counts:
    told, wanted = _words(row["caption"]), _words(given)
    kept = {"kept": (float((wanted & told).total()), float(wanted.total()))} if wanted else {}
    found, true = stated(row["caption"], row["language"]), facts_of(scene)
    return {"stated": (len(found & true), len(true)), **kept}


def _text(row: Record, scene: Scene, given: str) -> Counts:
    found, wanted = ([item.text for item in read_transcript(text)] for text in (row["caption"], true_text(scene)))
    counts: Counts = {"order": (float(found == wanted), 1.0)}
    true = "\n".join(wanted)
    return counts | ({"cer": (float(_edits("\n".join(found), true)), float(len(true)))} if true else {})


def _structured(row: Record, scene: Scene, given: str) -> Counts:
    found, true = Structured.from_json(row["caption"]), structured_truth(scene)
    (things, links), (true_things, true_links) = _graph(found), _graph(true)
    right, holding = (things & true_things).total(), {link for link in links if link in true_links or _holds(link, true)}
    same_texts = [item.text for item in found.texts] == [item.text for item in true.texts]
    return {
        "entities_precision": (right, things.total()),
        "entities_recall": (right, true_things.total()),
        "relations_precision": (len(holding), len(links)),
        "relations_recall": (len(links & true_links), len(true_links)),
        "exact": (float(things == true_things and holding == links and links >= true_links and same_texts), 1.0),
    }


COUNTERS: dict[str, Callable[[Record, Scene, str], Counts]] = {"general": _prose, "text": _text, "knowledge": _knowledge, "structured": _structured}

Link = tuple[str, str, str]


def _graph(caption: Structured) -> tuple[Counter[str], set[Link]]:
    """Entities by name and attributes, and relations between those, turned so that they say left of and above."""
    names = {item.id: " ".join([item.name, *(f"{key}={value}" for key, value in sorted(item.attributes.items()))]).casefold() for item in caption.entities}
    known = names | {item.id: f'"{item.text}"' for item in caption.texts}
    links = set()
    for item in caption.relations:
        name, ends = item.relation.casefold(), (known[item.subject], known[item.object])
        links.add((ends[1], _TURNED[name], ends[0]) if name in _TURNED else (ends[0], name, ends[1]))
    return Counter(names.values()), links


def _holds(link: Link, true: Structured) -> bool:
    """Whether a spatial relation that the truth does not list holds all the same between some two things so called."""
    names = {item.id: " ".join([item.name, *(f"{key}={value}" for key, value in sorted(item.attributes.items()))]).casefold() for item in true.entities}
    boxes = [(names[item.id], item.box) for item in true.entities] + [(f'"{item.text}"', item.box) for item in true.texts]
    return any(link[1] in spatial_relations(a, b) for one, a in boxes for two, b in boxes if (one, two) == (link[0], link[2]) and a and b)


def _edits(found: str, true: str) -> int:
    """Levenshtein distance."""
    before = np.arange(len(true) + 1)
    letters = np.array(list(true))
    steps = np.arange(len(true) + 1)
    for number, letter in enumerate(found, 1):
        changed = np.minimum(before[1:] + 1, before[:-1] + (letters != letter))
        now = np.concatenate([[number], changed])
        before = np.minimum.accumulate(now - steps) + steps
    return int(before[-1])


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.casefold()))


def _ratio(counts: Sequence[tuple[str, tuple[float, float]]], seed: int) -> Figure:
    """Sum of parts by sum of wholes; captions of one picture are drawn together."""
    sums: dict[str, np.ndarray] = {}
    for name, count in counts:
        sums[name] = sums.get(name, np.zeros(2)) + count
    table = np.array(list(sums.values()))
    draws = numpy_rng(seed, "captions/evaluate").integers(len(table), size=(DRAWS, len(table)))
    parts, wholes = table[draws].sum(1).T
    low, high = np.quantile(parts / np.maximum(wholes, 1e-9), [0.025, 0.975])
    part, whole = table.sum(0)
    return Figure(float(part / max(whole, 1e-9)) if whole else 1.0, float(low) if whole else 1.0, float(high) if whole else 1.0, len(counts))


def _with_f1(figures: dict[str, Figure]) -> dict[str, Figure]:
    """F1 beside every pair of precision and recall; the interval's ends are those of the two together, which is wider than it needs to be."""
    for name in [name for name in figures if name.endswith("_precision")]:
        stem = name.removesuffix("_precision")
        precision, recall = figures[name], figures[f"{stem}_recall"]
        value, low, high = (_f1(getattr(precision, end), getattr(recall, end)) for end in ("value", "low", "high"))
        figures[f"{stem}_f1"] = Figure(value, low, high, precision.captions)
    return dict(sorted(figures.items()))


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def lines(figures: Mapping[str, Figure]) -> Iterator[str]:
    """For reading."""
    for name, figure in figures.items():
        yield f"{name:36} {figure.value:6.3f} [{figure.low:.3f}, {figure.high:.3f}] of {figure.captions} captions"
