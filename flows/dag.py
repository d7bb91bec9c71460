"""Reads dvc.yaml and dvc.lock: the stages, their order, what each has written, and what is out of date.

dvc.yaml is the only statement of the line; everything here is derived from it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from qi2.core.errors import QI2Error
from tasks import config, settings

CONFIG = "config"
SHOWN = 4  # reasons named for a stage that is out of date
BUSY = ("is busy", "Unable to acquire lock", "another DVC process")


class Busy(QI2Error):
    """Another DVC process holds the workspace."""


@dataclass(frozen=True)
class Stage:
    """One stage of one scale: the sections of the configuration and the paths (relative to the project root) that it reads and writes."""

    name: str
    params: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]


class Dag:
    """The stages of one scale, as dvc.yaml in ``root`` (default: the project) defines them."""

    def __init__(self, scale: str, root: Path | None = None) -> None:
        self.scale, self.root = scale, root or settings.ROOT

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """Every stage but ``config`` by name. Raises QI2Error for a scale that dvc.yaml does not have."""
        found = {}
        for name, entry in _parsed(self.root / "dvc.yaml")["stages"].items():
            if self.scale not in entry["foreach"]:
                raise QI2Error(f"unknown scale {self.scale!r}; dvc.yaml has {', '.join(entry['foreach'])}")
            body = json.loads(json.dumps(entry["do"]).replace("${item}", self.scale))
            outs = (*_paths(body.get("outs", [])), *_paths(body.get("metrics", [])), *_paths(body.get("plots", [])))
            params = tuple(key for entry in body.get("params", []) for keys in entry.values() for key in keys)
            found[name] = Stage(name, params, _paths(body.get("deps", [])), outs)
        found.pop(CONFIG, None)
        return found

    @cached_property
    def upstream(self) -> dict[str, set[str]]:
        """{stage: the stages whose outputs it reads directly}."""
        writers = {out: stage.name for stage in self.stages.values() for out in stage.outs}
        return {
            stage.name: {writer for dep in stage.deps for out, writer in writers.items() if dep == out or dep.startswith(f"{out}/")}
            for stage in self.stages.values()
        }

    def order(self, target: str | None = None) -> list[str]:
        """All stages, or ``target`` and what it needs, such that a stage comes after its inputs; ties as in dvc.yaml."""
        position = {name: index for index, name in enumerate(self.stages)}
        wanted = set(self.stages) if target is None else self._ancestors(target) | {target}
        sorter = TopologicalSorter({name: self.upstream[name] for name in self.stages if name in wanted})
        sorter.prepare()
        ready, done = list(sorter.get_ready()), []
        while ready:
            name = min(ready, key=position.__getitem__)
            ready.remove(name)
            done.append(name)
            sorter.done(name)
            ready += sorter.get_ready()
        return done

    def _ancestors(self, target: str) -> set[str]:
        if target not in self.stages:
            raise QI2Error(f"unknown stage {target!r}; dvc.yaml has {', '.join(self.stages)}")
        found: set[str] = set()
        for name in self.upstream[target]:
            found |= {name} | self._ancestors(name)
        return found

    def downstream(self, names: set[str]) -> set[str]:
        """``names`` and every stage that needs one of them."""
        return {name for name in self.stages if name in names or self._ancestors(name) & names}

    def changed(self, target: str | None = None) -> set[str]:
        """Stages up to ``target`` whose code, parameters, inputs or outputs differ from dvc.lock, with all that follows from them."""
        return self.downstream(set(self.reasons(target))) & set(self.order(target))

    def reasons(self, target: str | None = None, attempts: int = 60) -> dict[str, list[str]]:
        """{stage: the paths and keys that differ from dvc.lock}, without stages that merely follow."""
        order = self.order(target)
        ends = [order[-1]] if target else [name for name in order if not any(name in above for above in self.upstream.values())]
        text = self._dvc("status", "--json", "--with-deps", *(f"{name}@{self.scale}" for name in ends), attempts=attempts)
        found = {key.removesuffix(f"@{self.scale}"): facts for key, facts in json.loads(text).items()}
        return {name: _named(facts) for name, facts in found.items() if name in self.stages}

    def _dvc(self, *arguments: str, attempts: int) -> str:
        """Standard output of a DVC command; asks every five seconds while another DVC process holds the workspace."""
        for attempt in range(attempts):
            done = subprocess.run([sys.executable, "-m", "flows.dvc", *arguments], cwd=self.root, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stdout
            if not any(text in done.stderr for text in BUSY):
                raise QI2Error(f"dvc {' '.join(arguments)} failed: {done.stderr.strip()}")
            time.sleep(5 if attempt + 1 < attempts else 0)
        raise Busy("a stage is running, and DVC says what is out of date only when it has ended; ask again then")

    def recorded(self, name: str) -> dict[str, str]:
        """{output path: md5} of a stage as dvc.lock has it; empty for a stage that has not run."""
        return {out["path"]: out.get("md5", "") for out in self._locked(name).get("outs", [])}

    def inputs(self, name: str) -> dict[str, str]:
        """{dependency path: md5} of a stage as dvc.lock has it."""
        return {dep["path"]: dep.get("md5", "") for dep in self._locked(name).get("deps", [])}

    def _locked(self, name: str) -> Mapping[str, Any]:
        path = self.root / "dvc.lock"
        if not path.exists():
            return {}
        return _parsed(path).get("stages", {}).get(f"{name}@{self.scale}", {})


def _parsed(path: Path) -> Any:
    """A YAML file's content; parsed anew only when the file has changed."""
    return _parse(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _parse(path: Path, _changed: int) -> Any:
    return yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


def _paths(entries: list[Any]) -> tuple[str, ...]:
    return tuple(entry if isinstance(entry, str) else next(iter(entry)) for entry in entries)


def _named(facts: list[Any]) -> list[str]:
    """The paths, and in their place the keys of a configuration, of one stage in ``dvc status --json``."""
    found: list[str] = []
    for fact in facts:
        for path, state in ({fact: ""} if isinstance(fact, str) else next(iter(fact.values()))).items():
            found += state if isinstance(state, dict) else [path]
    return found


def states(dag: Dag) -> Iterator[tuple[str, str]]:
    """(stage, up to date or why not) in their order; what was edited in conf/ since the last run counts as a run would find it."""
    order, edited = dag.order(), config.edited(dag.scale)
    reasons = {name: [key for key in stage.params if key in edited] for name, stage in dag.stages.items() if edited & set(stage.params)}
    for name, found in dag.reasons(attempts=1).items():
        reasons[name] = list(dict.fromkeys([*reasons.get(name, []), *found]))
    changed = dag.downstream(set(reasons))
    for name in order:
        above = [stage for stage in dag.stages if stage in dag.upstream[name] & changed]
        yield name, _state(reasons.get(name, []), above) if dag.recorded(name) else "has not run"


def _state(reasons: list[str], above: list[str]) -> str:
    if not reasons and not above:
        return "up to date"
    more = f" and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    return f"out of date: {', '.join(reasons[:SHOWN])}{more}" if reasons else f"out of date: follows {', '.join(above)}"


def main(arguments: list[str]) -> int:
    """Print the state of every stage of a scale."""
    try:
        for name, state in states(Dag(arguments[0] if arguments else "tiny")):
            print(f"{name:10} {state}")
    except Busy as busy:
        print(busy)
    except QI2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
