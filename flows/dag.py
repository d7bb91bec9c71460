"""Reads dvc.yaml and dvc.lock: the stages, their order, what each has written, and what is out of date.

dvc.yaml is the only statement of the line; everything here is derived from it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from qi2.core.errors import QI2Error
from tasks import settings

CONFIG = "config"
BUSY = ("is busy", "Unable to acquire lock", "another DVC process")


@dataclass(frozen=True)
class Stage:
    """One stage of one scale: what it reads and what it writes, as paths relative to the project root."""

    name: str
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
            found[name] = Stage(name, _paths(body.get("deps", [])), outs)
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
        order = self.order(target)
        ends = [order[-1]] if target else [name for name in order if not any(name in above for above in self.upstream.values())]
        text = self._dvc("status", "--json", "--with-deps", *(f"{name}@{self.scale}" for name in ends))
        named = {key.removesuffix(f"@{self.scale}") for key in json.loads(text)}
        return self.downstream(named & set(self.stages)) & set(order)

    def _dvc(self, *arguments: str, attempts: int = 60) -> str:
        """Standard output of a DVC command; waits while another DVC process holds the workspace."""
        for _ in range(attempts):
            done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=self.root, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stdout
            if not any(text in done.stderr for text in BUSY):
                break
            time.sleep(5)
        raise QI2Error(f"dvc {' '.join(arguments)} failed: {done.stderr.strip()}")

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


def main(arguments: list[str]) -> int:
    """Print the state of every stage of a scale."""
    try:
        dag = Dag(arguments[0] if arguments else "tiny")
        changed = dag.changed()
    except QI2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name in dag.order():
        print(f"{name:10} {'out of date' if name in changed else 'up to date'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
