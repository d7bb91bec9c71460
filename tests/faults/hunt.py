"""Kills processes of a running line with SIGKILL at moments drawn from a seed: a stage, a process that works for it, the DVC around it, or the flow."""

import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from flows.dag import Dag

VICTIMS = ("stage", "dvc", "worker", "flow", "stage", "stage")  # in these shares: a killed flow costs a minute, until its lease has ended
WORK_SHARE = 2 / 3  # of the moments are drawn from the time after the stage's imports, which at a small scale is the shorter one
SCAN_S, LOOK_S = 0.25, 0.02


@dataclass(frozen=True)
class Clock:
    """Seconds of an undisturbed stage: its process, its work after the imports, and the flow's task around both."""

    process: float
    work: float
    task: float


def clocks(runs: Path) -> dict[str, Clock]:
    """Read them from the timings and records of an undisturbed run."""
    spans = {line["stage"]: line["span_s"] for line in _lines(runs / "records.jsonl")}
    return {line["stage"]: Clock(line["wall_s"], line["compute_s"] + line["evaluate_s"], spans[line["stage"]]) for line in _lines(runs / "timings.jsonl")}


def _lines(path: Path) -> Iterator[dict]:
    return map(json.loads, path.read_text().splitlines())


@dataclass
class Blow:
    """A kill to come: of whom, in which execution of a stage, and how long after that process (or, ``working``, the stage's work) has begun."""

    stage: str
    victim: str
    dvc: psutil.Process
    working: bool
    delay: float
    flow: psutil.Process | None
    due: float | None = None


class Hunt:
    """Call ``look`` again and again while the line runs. ``kills``: (stage, victim, where it was) of every kill so far."""

    def __init__(self, project: Path, scale: str, undisturbed: dict[str, Clock], seed: int) -> None:
        self.project, self.clocks, self.random = project, undisturbed, random.Random(seed)
        self.runs = project / "runs" / scale
        self.dag = Dag(scale, project)
        self.order = self.dag.order()
        self.kills: list[tuple[str, str, str]] = []
        self.left: dict[str, list[str]] = defaultdict(list)
        self.blows: dict[str, Blow] = {}
        self.met: set[psutil.Process] = set()
        self._seen: dict[tuple[str, str], psutil.Process] = {}
        self._scanned = 0.0

    def plan(self, count: int, stages: list[str]) -> None:
        """Spread so many kills over the stages, the victims in their shares."""
        places = [stage for _ in range(0, count, len(stages)) for stage in self.random.sample(stages, len(stages))]
        for index, stage in enumerate(places[:count]):
            self.left[stage].append(VICTIMS[index % len(VICTIMS)])

    def look(self) -> None:
        """Strike where the time has come, and choose the moment for every execution of a stage that has begun."""
        now = time.monotonic()
        if now - self._scanned > SCAN_S:
            self._scanned, self._seen = now, dict(self._processes())
            self._arm()
        for stage, blow in list(self.blows.items()):
            self._follow(stage, blow)
        time.sleep(LOOK_S)

    def _processes(self) -> Iterator[tuple[tuple[str, str], psutil.Process]]:
        for process in psutil.process_iter():
            with suppress(psutil.Error, IndexError):
                words = process.cmdline()
                if words[1:2] != ["-m"] or words[2] not in ("tasks", "flows.dvc") or process.cwd() != str(self.project):
                    continue
                if words[2] == "tasks" and words[3] in self.order:
                    own = process.parent()
                    yield ("worker" if own is not None and own.cmdline() == words else "stage", words[3]), process
                elif "repro" in words:
                    yield ("dvc", words[-1].split("@")[0]), process

    def _arm(self) -> None:
        for (kind, stage), process in self._seen.items():
            if kind != "dvc" or process in self.met:
                continue
            self.met.add(process)
            self._carry(stage)
            if self.left[stage]:
                working = self.random.random() < WORK_SHARE
                victim, clock = self.left[stage].pop(), self.clocks[stage]
                around = 0.0 if victim in ("stage", "worker") else clock.task - clock.process
                length = clock.work + around / 2 if working else clock.process + around
                self.blows[stage] = Blow(stage, victim, process, working, self.random.uniform(0, length), _flow(process))

    def _carry(self, begun: str) -> None:
        """What was to be killed in stages that have ended meanwhile is killed in this one."""
        for stage in self.order[: self.order.index(begun)]:
            with suppress(yaml.YAMLError):  # another stage is just being recorded
                if stage not in self.blows and self.left[stage] and self.dag.recorded(stage):
                    self.left[begun] += self.left.pop(stage)

    def _follow(self, stage: str, blow: Blow) -> None:
        target = self._target(blow)
        if target is None and not _lives(blow.dvc):
            del self.blows[stage]
            self.left[stage].append(blow.victim)
        elif target is not None and blow.due is None:
            if not blow.working or (self.runs / ".events" / stage / "events.jsonl").exists():
                blow.due = time.monotonic() + blow.delay
        elif target is not None and blow.due is not None and time.monotonic() >= blow.due:
            del self.blows[stage]
            with suppress(psutil.NoSuchProcess):
                target.kill()
                self.kills.append((stage, blow.victim, self._where(stage)))

    def _target(self, blow: Blow) -> psutil.Process | None:
        stage = self._seen.get(("stage", blow.stage))
        worker = self._seen.get(("worker", blow.stage), stage)  # the stage where it has none
        found = {"stage": stage, "worker": worker, "dvc": blow.dvc, "flow": blow.flow}[blow.victim]
        return found if found is not None and _lives(found) else None

    def _where(self, stage: str) -> str:
        """How far the stage had come, by what it has left on the disk."""
        kept = self.runs / ".checkpoints" / Path(self.dag.stages[stage].outs[0]).name
        if any(kept.rglob(".step-*.staging")):
            return "in a save"
        if not (self.runs / ".events" / stage / "events.jsonl").exists():
            return "before its work"
        saved = sorted(path.name for path in kept.rglob("step-*"))
        return f"after {saved[-1]}" if saved else "in its work"

    def table(self) -> str:
        """Kills by stage and victim, and by place."""
        counts, kinds = Counter((stage, victim) for stage, victim, _ in self.kills), ("stage", "worker", "dvc", "flow")
        rows = [f"{stage:10}" + "".join(f"{counts[stage, kind]:7}" for kind in kinds) for stage in self.order]
        total = f"{'all':10}" + "".join(f"{sum(counts[stage, kind] for stage in self.order):7}" for kind in kinds)
        places = Counter("after a checkpoint" if place.startswith("after") else place for _, _, place in self.kills)
        head = f"{'killed':10}" + "".join(f"{kind:>7}" for kind in kinds)
        return "\n".join([head, *rows, total, ", ".join(f"{count} {place}" for place, count in places.most_common())])


def _flow(dvc: psutil.Process) -> psutil.Process | None:
    """The flow that has started a DVC; None where it is gone already."""
    parent = dvc.parent()
    return parent if parent is not None and any("prefect" in word for word in parent.cmdline()) else None


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
