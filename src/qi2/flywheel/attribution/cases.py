"""Failing prompts as attribution tests them. Torch-free."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world.edits import Edit
from qi2.data.world.scene import Scene

T2I, TI2I = "t2i", "ti2i"
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
ARTICLES = frozenset({"a", "an", "the"})


@dataclass(frozen=True)
class Case:
    """One failing prompt. ``failed``: the attributes that were wrong; ``truth``: what a right picture shows, where it is known."""

    id: str
    task: str
    kind: str
    prompt: str
    failed: tuple[str, ...] = ()
    truth: Scene | Edit | None = None
    references: tuple[Image.Image, ...] = ()
    heldout: bool = False  # or not to be trained on for want of consent: nothing of it may enter training

    @property
    def features(self) -> frozenset[str]:
        """What the prompt says, for grouping: see `said`."""
        return said(self.prompt)


def said(prompt: str) -> frozenset[str]:
    """The words of a prompt; of rendered text, which is in capitals, the letters (``letter K``): words of the language it has none."""
    words = WORD.findall(prompt)
    rendered = {word for word in words if word.isupper() and len(word) > 1}
    return frozenset({f"letter {mark}" for word in rendered for mark in word} | {word for word in words if word not in rendered and word not in ARTICLES})


def counted(prompts: Iterable[str]) -> Counter[str]:
    """How many prompts have each feature: what training data say."""
    return Counter(feature for prompt in prompts for feature in said(prompt))


def parse_truth(text: str, task: str) -> Scene | Edit | None:
    """The truth that a signal carries; None where it has none. Raises QI2Error where it cannot be read."""
    if not text:
        return None
    try:
        return Scene.from_json(text) if task == T2I else Edit.from_json(text)
    except ValueError as error:
        raise QI2Error(f"the truth of a failing prompt is not JSON: {text[:80]!r}; write it with Scene.to_json or Edit.to_json") from error


def failed_attributes(verdict: Mapping[str, Any]) -> tuple[str, ...]:
    """The attributes that a verdict calls wrong; empty where it says otherwise what was wrong (votes, words, a reward)."""
    return tuple(sorted(name for name, right in dict(verdict.get("attributes", {})).items() if name not in ("all", "kept_mae") and not right))


def from_signals(signals: Sequence[Any], picture: Callable[[str], Image.Image], most: int = 0) -> list[Case]:
    """Cases of `qi2.flywheel.signals.Signal`s, each prompt once; ``most``: so many at most, in turn over tasks and kinds, in the store's order.

    An edit whose references cannot be had is left out: nothing could be drawn for it.
    """
    cases = [case_of(signal, picture) for signal in in_turn(distinct(signals), lambda signal: (signal.task, signal.kind), most)]
    return [case for case in cases if case.task == T2I or case.references]


def distinct(signals: Iterable[Any]) -> list[Any]:
    """The first signal of every failing prompt and truth, in their order."""
    found: dict[tuple[str, str, str], Any] = {}
    for signal in signals:
        found.setdefault((signal.task, signal.prompt, signal.truth), signal)
    return list(found.values())


def case_of(signal: Any, picture: Callable[[str], Image.Image]) -> Case:
    """One case; the world's edits draw their references themselves."""
    from qi2.data.world.render import render

    truth = parse_truth(signal.truth, signal.task)
    references = tuple(picture(name) for name in signal.references)
    if not references and isinstance(truth, Edit):
        references = tuple(render(scene, 64) for scene in truth.references)
    return Case(signal.id, signal.task, signal.kind, signal.prompt, failed_attributes(signal.verdict), truth, references, not signal.trainable)


def in_turn(items: Sequence[Any], key: Callable[[Any], Any], most: int) -> list[Any]:
    """Up to ``most`` items, one of every group after the other; all of them where ``most`` is 0 or they are fewer."""
    if not most or len(items) <= most:
        return list(items)
    groups: dict[Any, list[int]] = {}
    for i, item in enumerate(items):
        groups.setdefault(key(item), []).append(i)
    order = sorted((rank, place) for group in groups.values() for rank, place in enumerate(group))
    return [items[i] for i in sorted(place for _, place in order[:most])]


@dataclass
class Tally:
    """How many of the pictures were right."""

    right: int = 0
    tried: int = 0

    def add(self, right: bool) -> None:
        """One more picture."""
        self.right, self.tried = self.right + bool(right), self.tried + 1

    @property
    def rate(self) -> float:
        """Share of right pictures; 0 where there was none."""
        return self.right / self.tried if self.tried else 0.0


@dataclass
class Evidence:
    """What the tests of one case gave: pictures by probe (own, low, high, steps, reworded, enhanced), by wording, and similarities to training data."""

    case: Case
    tallies: dict[str, Tally] = field(default_factory=dict)
    wordings: dict[str, Tally] = field(default_factory=dict)  # other prompt -> its pictures
    neighbours: tuple[float, ...] = ()  # similarity of the nearest training samples, best first; empty: not looked for
    usual: tuple[float, ...] = ()  # the same of ordinary prompts: what a training sample's own neighbours are like

    def add(self, probe: str, right: bool, wording: str = "") -> None:
        """One more picture of a probe."""
        self.tallies.setdefault(probe, Tally()).add(right)
        if wording:
            self.wordings.setdefault(wording, Tally()).add(right)

    def rate(self, probe: str) -> float | None:
        """Success rate of a probe; None where it was not run."""
        tally = self.tallies.get(probe)
        return tally.rate if tally and tally.tried else None

    def to_json(self) -> dict[str, Any]:
        """Plain values: what a decision keeps."""
        values: dict[str, Any] = {name: [tally.right, tally.tried] for name, tally in self.tallies.items()}
        best = sorted(self.wordings.items(), key=lambda pair: -pair[1].rate)[:8]
        values |= {"wordings": {text: [tally.right, tally.tried] for text, tally in best}} if best else {}
        return values | ({"neighbours": json.loads(json.dumps([round(value, 4) for value in self.neighbours]))} if self.neighbours else {})
