"""Everyday words for the exact ones. The words are data: ``wordings/*.json``, and any further file that a configuration or the flywheel names."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from qi2.core.errors import QI2Error
from qi2.enhancer.strategies.base import Degraded, Strategy, outside_quotes

Wordings = Mapping[str, Sequence[str]]
"""{exact phrase: everyday phrases}."""

OPENINGS = "openings"  # the entry whose phrases stand before a prompt: "can you draw"
SHARE = 0.6  # of the phrases that have an everyday form get one


def read_wordings(path: Path) -> dict[str, list[str]]:
    """A JSON file {phrase: [everyday phrases]}. Raises QI2Error that names the file and the entry."""
    try:
        found = json.loads(Path(path).read_bytes().decode())
        json.dumps(found, ensure_ascii=False).encode()  # halves of surrogate pairs
    except (OSError, ValueError, RecursionError) as error:
        raise QI2Error(f"{path} cannot be read as wordings ({error}); write a JSON object {{phrase: [everyday phrases]}}, in UTF-8") from error
    for phrase, others in found.items() if isinstance(found, dict) else [("the file", None)]:
        if not phrase.strip():
            raise QI2Error(f"{path}: a phrase is empty; name what {others!r} stand for, or leave them out")
        if not isinstance(others, list) or not others or not all(isinstance(text, str) and text.strip() for text in others):
            raise QI2Error(f"{path}: {phrase!r} has to be a list of phrases that is not empty; write {{phrase: [everyday phrases]}}")
    return found


def merged(paths: Sequence[str | Path] = ()) -> dict[str, list[str]]:
    """The built-in wordings and those of further files."""
    found: dict[str, list[str]] = {}
    for group in [*_built_in(), *(read_wordings(Path(path)) for path in paths)]:
        for phrase, others in group.items():
            found[phrase] = list(dict.fromkeys([*found.get(phrase, []), *others]))
    return found


@lru_cache(maxsize=1)
def _built_in() -> tuple[Wordings, ...]:
    folder = files("qi2.enhancer") / "wordings"
    return tuple(json.loads(entry.read_text()) for entry in sorted(folder.iterdir(), key=lambda e: e.name) if entry.name.endswith(".json"))


def colloquial(wordings: Wordings) -> Strategy:
    """The strategy for a set of wordings."""
    phrases = sorted((p for p in wordings if p != OPENINGS), key=len, reverse=True)
    pattern = re.compile(r"\b(" + "|".join(re.escape(phrase) for phrase in phrases) + r")(s?)\b") if phrases else None

    def apply(prompt: str, draw: np.random.Generator) -> Degraded | None:
        thoughts: list[str] = []

        def everyday(found: re.Match[str]) -> str:
            if draw.random() > SHARE:
                return found[0]
            others = wordings[found[1]]
            other = others[int(draw.integers(len(others)))]
            thoughts.append(f"{other} is {found[1]}")
            return other + found[2]

        text = outside_quotes(prompt, lambda part: pattern.sub(everyday, part)) if pattern else prompt
        openings = wordings.get(OPENINGS, ())
        if openings and draw.random() < 1 / 3:
            text = f"{openings[int(draw.integers(len(openings)))]} {text}"
        return Degraded(text, ", ".join(dict.fromkeys(thoughts)) or "this is everyday speech") if text != prompt else None

    return Strategy("colloquial", "Say it in everyday words, as in a chat.", apply)
