"""Triplets (P_short, reasoning, P_fine) by reverse engineering of detailed annotations (report section 3.3)."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.enhancer.categories import classify
from qi2.enhancer.checks import faults
from qi2.enhancer.config import CATEGORIES, TASKS, LimitsConfig, TripletsConfig
from qi2.enhancer.strategies.base import Strategy, quoted
from qi2.enhancer.strategies.registry import check_mixture, strategies
from qi2.enhancer.template import FULL

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Annotation:
    """A detailed prompt of a training picture. ``truth``: JSON of the world's scene or edit, where it is known."""

    id: str
    task: str
    kind: str
    fine: str
    truth: str = ""
    references: tuple[str, ...] = ()  # rows of the source pictures


@dataclass(frozen=True)
class Triplet:
    """What a user might write, how to reason from it, and what the generator should read. ``dropped``: what the short prompt leaves open."""

    id: str
    task: str
    kind: str
    category: str
    short: str
    reasoning: str
    fine: str
    strategies: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    truth: str = ""
    references: tuple[str, ...] = ()


LISTS = ("strategies", "dropped", "references")  # fields of a triplet
Degrade = Callable[[Annotation, np.random.Generator], Triplet]


class Degrader:
    """Degrades by exact rules: a sampled subset of the strategies that a category allows, each inverted in the reasoning."""

    def __init__(self, config: TripletsConfig) -> None:
        check_mixture(config.mixture, "enhancer.triplets.mixture")
        check_mixture(config.edit_mixture, "enhancer.triplets.edit_mixture")
        self.config, self.pool = config, strategies(config.wordings)

    def __call__(self, annotation: Annotation, draw: np.random.Generator) -> Triplet:
        """One triplet; one that keeps its prompt where none of the sampled strategies applies, or by chance (``keep``)."""
        category = classify(annotation.fine)
        chosen = [] if draw.random() < self.config.keep else self.sampled(annotation.task, category, draw)
        return self.apply(annotation, category, chosen, draw)

    def sampled(self, task: str, category: str, draw: np.random.Generator) -> list[Strategy]:
        """The strategies of one degradation, by their chances, in the order in which they are applied."""
        mixture = self.config.mixture if task == "t2i" else self.config.edit_mixture
        allowed = [self.pool[name] for name in self.pool if name in mixture and category in self.pool[name].categories]
        return [strategy for strategy in allowed if draw.random() < mixture[strategy.name]]

    def apply(self, annotation: Annotation, category: str, chosen: Sequence[Strategy], draw: np.random.Generator) -> Triplet:
        """The strategies one after the other; the reasoning undoes the last one first."""
        short, thoughts, used, dropped = annotation.fine, list[str](), list[str](), set[str]()
        for strategy in chosen:
            found = strategy.apply(short, draw)
            if found is not None and quoted(found.prompt) == quoted(short):
                short, dropped = found.prompt, dropped | found.dropped
                thoughts.append(found.thought)
                used.append(strategy.name)
        return triplet_of(annotation, category, short, "; ".join(reversed(thoughts)) or FULL, used, dropped)


def triplet_of(annotation: Annotation, category: str, short: str, reasoning: str, used: Iterable[str], dropped: Iterable[str]) -> Triplet:
    """A triplet that keeps where its annotation comes from."""
    a = annotation
    return Triplet(a.id, a.task, a.kind, category, short, reasoning, a.fine, tuple(used), tuple(sorted(dropped)), a.truth, a.references)


def annotations(table: "pd.DataFrame", config: TripletsConfig, split: str = "train") -> list[Annotation]:
    """Every caption of the rows of a split that nobody opted out of. Raises QI2Error where there is none."""
    usable = table[(table["split"] == split) & ~table["opt_out"] & table["task"].isin(TASKS) & (table["source"] != "defect")]
    if config.kinds:
        usable = usable[usable["kind"].isin(config.kinds)]
    found = [_annotation(row, text) for row in usable.to_dict("records") for text in row["captions"]]
    if not found:
        raise QI2Error(f"none of {len(table)} rows is a captioned one of split {split}; check enhancer.triplets.kinds and the captions")
    return found


def _annotation(row: Mapping[Any, Any], text: str) -> Annotation:
    truth = row["edit"] or row["scene"] if row["task"] == "ti2i" else row["scene"]
    return Annotation(row["id"], row["task"], row["kind"] or "user", text, truth or "", tuple(row["references"]))


def build(found: Sequence[Annotation], config: TripletsConfig, degrade: Degrade, seed: int) -> list[Triplet]:
    """``pool`` triplets, T2I and TI2I by ``edit_share``, kinds in turn, each annotation again and again until there are enough; and those of ``examples``."""
    by_task = {task: [a for a in found if a.task == task] for task in TASKS}
    share = {"t2i": 1 - config.edit_share if by_task["ti2i"] else 1.0, "ti2i": config.edit_share if by_task["t2i"] else 1.0}
    triplets = []
    for task, group in by_task.items():
        for i, annotation in enumerate(_in_turn(group, round(config.pool * share[task]), seed)):
            triplets.append(degrade(annotation, rng.numpy_rng(seed, f"enhancer/degrade/{task}", i)))
    more = [example for path in config.examples for example in read_triplets(Path(path))]
    mixed = [*triplets, *more]
    return [mixed[int(i)] for i in rng.numpy_rng(seed, "enhancer/mix").permutation(len(mixed))]


def _in_turn(group: Sequence[Annotation], n: int, seed: int) -> list[Annotation]:
    """``n`` annotations, every kind in turn, each kind's in random order."""
    kinds = sorted({annotation.kind for annotation in group})
    orders = []
    for kind in kinds:
        own = [annotation for annotation in group if annotation.kind == kind]
        orders.append([own[int(i)] for i in rng.numpy_rng(seed, f"enhancer/order/{kind}").permutation(len(own))])
    return [orders[i % len(kinds)][i // len(kinds) % len(orders[i % len(kinds)])] for i in range(n)] if kinds else []


def write_triplets(path: Path, triplets: Iterable[Triplet]) -> None:
    """One JSON object per line."""
    path.write_bytes("".join(json.dumps(asdict(triplet), ensure_ascii=False) + "\n" for triplet in triplets).encode())


def read_triplets(path: Path) -> list[Triplet]:
    """Inverse of ``write_triplets``; ``short`` and ``fine`` suffice, null is as good as absent. Raises QI2Error that names file and line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise QI2Error(f"no file of triplets {path} ({error.strerror}); give a JSONL file with short and fine in every line") from error
    return [_read_line(line, path, number) for number, line in enumerate(data.splitlines(), 1) if line.strip()]


def _read_line(line: bytes, path: Path, number: int) -> Triplet:
    where = f"{path}, line {number}"
    try:
        values = json.loads(line.decode())
        given = {name: values[name] for name in Triplet.__dataclass_fields__ if values.get(name) is not None}
        json.dumps(given, ensure_ascii=False).encode()  # halves of surrogate pairs
    except (ValueError, AttributeError, RecursionError) as error:
        raise QI2Error(f"{where}: not a triplet ({error}); write a JSON object with short and fine, in UTF-8") from error
    for name in ("short", "fine"):
        if not isinstance(given.get(name), str) or not given[name].strip():
            raise QI2Error(f"{where}: short and fine have to be texts")
    lists = {name: _texts(given.pop(name, []), f"{where}: {name}") for name in LISTS}
    for name, value in given.items():
        if not isinstance(value, str):
            raise QI2Error(f"{where}: {name} has to be a text, not {json.dumps(value)[:60]}")
    for name, known in (("task", TASKS), ("category", CATEGORIES)):
        if given.get(name, known[0]) not in known:
            raise QI2Error(f"{where}: {name} is one of {', '.join(known)}, not {given[name][:60]!r}")
    plain = {"id": f"{path.name}:{number}", "task": "t2i", "kind": "", "category": classify(given["fine"]), "reasoning": FULL}
    return Triplet(**{**plain, **given, **lists})


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise QI2Error(f"{where} has to be a list of texts, not {json.dumps(value)[:60]}")
    return tuple(value)


def figures(triplets: Sequence[Triplet]) -> dict[str, float]:
    """Shares of tasks, categories and strategies, and lengths in words."""
    n = max(1, len(triplets))
    counts = Counter(f"task/{t.task}" for t in triplets) + Counter(f"category/{t.category}" for t in triplets)
    counts += Counter(f"strategy/{name}" for t in triplets for name in t.strategies or ["none"])
    lengths = {f"words/{name}": sum(len(getattr(t, name).split()) for t in triplets) / n for name in ("short", "reasoning", "fine")}
    return {f"triplets/{name}": value / n for name, value in sorted(counts.items())} | {f"triplets/{k}": v for k, v in lengths.items()}


def sound(triplet: Triplet, limits: LimitsConfig) -> bool:
    """Whether the fine prompt would be taken as a rewrite of the short one."""
    return not faults(triplet.short, triplet.fine, limits)
