"""Measures any captioner where the truth is known: its captions against the scene graphs (report 2.2 gives no such measure; this is ours).

A caption that was refused or invalid counts as one that states nothing; unreadable pictures do not count. ``facts``: share of the
scene's facts that are stated. ``hallucinated``: share of the stated facts that are false. Every figure is a ratio of sums over pictures.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qi2.data.captions.answers import UNREADABLE
from qi2.data.captions.facts import facts as facts_of
from qi2.data.captions.facts import true_facts
from qi2.data.captions.intervals import Figure, Ratio, figure
from qi2.data.captions.matching import structured_ratios, text_ratios
from qi2.data.captions.reading import stated
from qi2.data.captions.words import known_languages
from qi2.data.world.scene import Scene

if TYPE_CHECKING:
    import pandas as pd

Record = Mapping[Any, Any]
Ratios = dict[str, Ratio]
_LABEL = re.compile(r"^(?:Caption|Source): ", re.MULTILINE)  # see ``rows.facts_by_id``
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]+")  # Chinese and Japanese
_SPACED = re.compile(r"[^\W_\u3040-\u30ff\u3400-\u9fff]+")


def evaluate(table: "pd.DataFrame", scenes: Mapping[str, Scene], facts: Mapping[str, str] | None = None, seed: int = 0) -> dict[str, Figure]:
    """Figures with 95 % intervals by ``SCHEME/NAME`` (and ``general/LANGUAGE/NAME``) over the rows of captions.parquet that have a scene.

    ``facts`` are those that knowledge captions were given, by id. Languages that the world does not speak are left out.
    """
    readable = set(known_languages())
    ratios: dict[str, dict[str, Ratio]] = {}
    for record in table.to_dict("records"):
        if record["id"] not in scenes or record["status"] == UNREADABLE or (record["language"] and record["language"] not in readable):
            continue
        found = MEASURES[record["scheme"]](record, scenes[record["id"]], (facts or {}).get(record["id"], ""))
        for name, ratio in found.items():
            for prefix in {record["scheme"], f"{record['scheme']}/{record['language']}".rstrip("/")}:
                _add(ratios.setdefault(f"{prefix}/{name}", {}), record["id"], ratio)
    return {name: figure(list(of.values()), seed, name) for name, of in sorted(ratios.items()) if any(whole for _, whole in of.values())}


def _add(ratios: dict[str, Ratio], picture: str, ratio: Ratio) -> None:
    part, whole = ratios.get(picture, (0, 0))
    ratios[picture] = part + ratio[0], whole + ratio[1]


def _general(record: Record, scene: Scene, given: str) -> Ratios:
    needed, found = facts_of(scene), stated(record["caption"], record["language"])
    return {"facts": (len(needed & found), len(needed)), "hallucinated": (len(found - true_facts(scene)), len(found))}


def _knowledge(record: Record, scene: Scene, given: str) -> Ratios:
    """As general, where the given facts stand word by word they are not held against the picture; and the share of their words that was kept."""
    caption, words = record["caption"], _words(_LABEL.sub("", given))
    kept = len(words & _words(caption))
    seen = " ".join(caption.split()).replace(" ".join(given.split()), " ") if given else caption
    return _general({**record, "caption": seen}, scene, given) | {"given": (kept, len(words))}


def _words(text: str) -> set[str]:
    """Words and numbers without case and punctuation; of scripts without spaces every two letters in a row."""
    found = set(_SPACED.findall(text.casefold()))
    return found | {run[i : i + 2] for run in _UNSPACED.findall(text) for i in range(max(1, len(run) - 1))}


MEASURES: dict[str, Callable[[Record, Scene, str], Ratios]] = {
    "general": _general,
    "text": lambda record, scene, given: text_ratios(record["caption"], scene),
    "knowledge": _knowledge,
    "structured": lambda record, scene, given: structured_ratios(record["caption"], scene),
}


def format_figures(figures: Mapping[str, Figure]) -> str:
    """A table for people: name, value, interval, pictures."""
    wide = max((len(name) for name in figures), default=0)
    return "\n".join(f"{name:<{wide}}  {item.value:.3f}  [{item.low:.3f}, {item.high:.3f}]  {item.pictures} pictures" for name, item in figures.items())
