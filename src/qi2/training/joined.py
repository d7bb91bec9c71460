"""Several encoded folders read as one: the curated samples, and those that the data flywheel has added."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.models.sequence import EncodedPrompt
from qi2.training.data_plan import PlanRows
from qi2.training.encoded import ONLINE, ROWS, VERSIONS, EncodedSet, Sample

SAME = ("vae", "condition_encoder", "transform")  # what two folders must have been made with


class _Chained:
    """Stores by index, one after the other. ``starts``: the index of each one's first."""

    def __init__(self, stores: Sequence[Any], starts: Sequence[int]) -> None:
        self.stores, self.starts = list(stores), list(starts)

    def _at(self, i: int) -> tuple[Any, int]:
        k = int(np.searchsorted(self.starts, i, "right")) - 1
        return self.stores[k], i - self.starts[k]


class ChainedPrompts(_Chained):
    """Encoded prompts of several folders."""

    def __len__(self) -> int:
        return self.starts[-1] + len(self.stores[-1])

    def length(self, i: int) -> int:
        """Text tokens of a prompt."""
        store, own = self._at(i)
        return int(store.length(own))

    def __getitem__(self, i: int) -> EncodedPrompt:
        store, own = self._at(i)
        return store[own]  # type: ignore[no-any-return]


class ChainedLatents(_Chained):
    """Latents of several folders at one size; a folder that has none at this size is None."""

    def has(self, i: int) -> bool:
        """Whether an image was encoded at this size."""
        store, own = self._at(i)
        return store is not None and bool(store.has(own))

    @property
    def channels(self) -> int:
        """C of every image, the same in all folders."""
        return int(self.stores[0].channels)

    def __getitem__(self, i: int) -> Tensor:
        store, own = self._at(i)
        return store[own]  # type: ignore[no-any-return]


class JoinedSet(EncodedSet):
    """A curated set and a further one whose rows come ``repeat`` times for one of the first. Raises QI2Error where they were encoded differently."""

    def __init__(self, first: Path, more: Path, repeat: int = 1, features: bool = False) -> None:
        sets = [open_set(first, features), EncodedSet(more, features)]
        _check_same(first, more)
        self.added, self.repeat = len(sets[1].rows), repeat
        images = [0, 1 + int(max(max(sets[0]._target), max((i for own in sets[0]._references for i in own), default=0)))]
        prompts = [0, len(sets[0].prompts)]
        self.rows = pd.concat([sets[0].rows, _shifted(sets[1], images[1], prompts[1], sets[0])], ignore_index=True)
        self.version = hashlib.sha256("".join([sets[0].version, sets[1].version, str(repeat)]).encode()).hexdigest()
        self.online, self.sets, self.starts = sets[0].online, sets, [(0, 0), (len(sets[0].rows), prompts[1])]
        self.prompts = ChainedPrompts([s.prompts for s in sets], prompts)  # type: ignore[assignment]
        self.latents = {size: ChainedLatents([s.latents.get(size) for s in sets], images) for size in sets[0].latents}  # type: ignore[misc]
        self.features = {size: ChainedLatents([s.features.get(size) for s in sets], images) for size in sets[0].features}  # type: ignore[misc]
        self._prompts = {size: self.rows[f"prompts_{size}"].tolist() for size in self.latents}
        self._task = self.rows["task"].tolist()
        self._target, self._references = self.rows["image"].tolist(), self.rows["reference_images"].tolist()

    def plan_rows(self, stage: int, sizes: Sequence[int], ti2i_share: float) -> PlanRows:
        """As of one set; the further rows stand there ``repeat`` times."""
        plan = super().plan_rows(stage, sizes, ti2i_share)
        times = np.where(plan.index >= len(self.rows) - self.added, self.repeat, 1)
        ready = {size: np.repeat(values, times) for size, values in plan.ready.items()}
        index, task, kind = (np.repeat(values, times) for values in (plan.index, plan.task, plan.kind))
        return PlanRows(index, task, kind, ready, plan.version)

    def samples(self, rows: Sequence[int], size: int, draws: Sequence[np.random.Generator]) -> list[Sample]:
        """As of one set; where the first encodes while training, its rows of a batch are encoded together."""
        if not self.online:
            return super().samples(rows, size, draws)
        found: dict[int, Sample] = {}
        for k, (own, (row, prompt)) in enumerate(zip(self.sets, self.starts, strict=True)):
            places = [i for i, r in enumerate(rows) if (r >= self.starts[1][0]) == bool(k)]
            made = own.samples([rows[i] - row for i in places], size, [draws[i] for i in places]) if places else []
            for i, one in zip(places, made, strict=True):
                found[i] = replace(one, row=rows[i], prompt=one.prompt + prompt, encoded=one.encoded or own.prompts[one.prompt])
        return [found[i] for i in range(len(rows))]


def _shifted(more: EncodedSet, images: int, prompts: int, first: EncodedSet) -> pd.DataFrame:
    """The further rows with indices behind those of the first set."""
    rows = more.rows.copy()
    rows["image"] = rows["image"] + images
    rows["reference_images"] = rows["reference_images"].map(lambda own: [int(i) + images for i in own])
    for size in first.latents:
        name = f"prompts_{size}"
        rows[name] = rows[name].map(lambda own: [int(i) + prompts for i in own]) if name in rows else [[] for _ in range(len(rows))]
    return rows


def _check_same(first: Path, more: Path) -> None:
    made = [json.loads((folder / VERSIONS).read_text()) for folder in (first, more)]
    if wrong := [name.replace("_", " ") for name in SAME if made[0].get(name) != made[1].get(name)]:
        raise QI2Error(f"{more} was encoded with another {', '.join(wrong)} than {first}; run stage `accepted` again")


def open_set(encoded: Path, features: bool = False) -> EncodedSet:
    """A folder that stage `encode` wrote: with everything in it, or encoded while it is read."""
    if not (encoded / ONLINE).exists():
        return EncodedSet(encoded, features)
    from qi2.training.online import OnlineSet

    return OnlineSet(encoded, features)


def training_set(encoded: Path, accepted: Path | None = None, repeat: int = 1, features: bool = False) -> EncodedSet:
    """What a phase trains on: the curated set, and what was accepted where there is any; with the targets' vision features where asked for."""
    if accepted is None or not (accepted / ROWS).exists():
        return open_set(encoded, features)
    return JoinedSet(encoded, accepted, repeat, features)
