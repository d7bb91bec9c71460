"""Runs one stage of dvc.yaml in this process: resolved config in, one qi2 call, and what happened as events, metrics and timings."""

import csv
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from qi2.config import flatten
from qi2.core.errors import Interrupted, QI2Error
from qi2.core.publish import MANIFEST, file_sha256
from qi2.core.ranks import is_main
from qi2.core.reporter import NullReporter
from qi2.core.timing import Timer
from qi2.evaluation.summary import revision
from qi2.recipe import Recipe
from tasks import config, origin, settings
from tasks.events import EventReporter
from tasks.jsonl import append

EVENTS, FLOW_PID, FLOW_RUN = "QI2_EVENTS", "QI2_FLOW_PID", "PREFECT__FLOW_RUN_ID"
STOPPING = "stopping"  # a file among the events: the flow has told the stage to stop


def events_folder(scale: str, stage: str) -> Path:
    """Where a running stage leaves its events."""
    return settings.ROOT / settings.runs_folder(scale) / ".events" / stage


def checkpoints_folder(scale: str, out: str) -> Path:
    """Where the stage that writes ``runs/SCALE/OUT`` keeps what a killed run continues from."""
    return settings.ROOT / settings.runs_folder(scale) / ".checkpoints" / out


def run(stage: str, scale: str) -> None:
    """Run ``stage``; its timings are appended to ``runs/SCALE/timings.jsonl`` and its events forwarded unless a flow does that.

    Its checkpoints stay: until DVC has its outputs in dvc.lock they are all that is safe from a kill. The flow removes them then.
    """
    _end_with_flow(events_folder(scale, stage) / STOPPING)
    timer, started = Timer(), psutil.Process().create_time()
    runs, recipe, entry = settings.runs_folder(scale), config.read(scale), _definition(stage, scale)
    module = importlib.import_module(f"tasks.{stage}")
    if "threads" in _sections(entry):
        _use_threads(own_threads(recipe, stage))
    out = runs / module.OUT
    declared = _Declared(recipe, stage, set(_sections(entry)))
    if not is_main():  # a rank of a run that several processes share: the first one publishes and reports
        module.run(declared, runs, out, NullReporter())
        return
    checkpoints = checkpoints_folder(scale, module.OUT)
    origin.check(checkpoints, _origin(entry), recipe.engine.on_change)
    timer.seconds["import"] = time.time() - started
    reporter = EventReporter(events_folder(scale, stage))
    reporter.open(f"{stage}@{scale}", _tags(stage, scale, recipe.seed, entry), _params(entry))
    status = "FAILED"
    try:
        with timer.section("evaluate" if stage == "evaluate" else "compute"):
            module.run(declared, runs, out, reporter)
        status = "FINISHED"
    except Interrupted:
        status = "KILLED"
        raise
    finally:
        values = _publish_figures(runs, stage, out) if status == "FINISHED" else {}
        reporter.close(status, {f"final/{name}": value for name, value in values.items()})
        if EVENTS not in os.environ:
            _forward(scale, stage)
    origin.finish(checkpoints)
    _record(runs, stage, started, timer)


def own_threads(recipe: Recipe, stage: str) -> int:
    """The threads that the stage's own section asks for, else the recipe's."""
    section = getattr(recipe, "standins" if stage == "vlm" else stage, None)
    return getattr(section, "threads", 0) or recipe.threads


def _use_threads(count: int) -> None:
    """Set the number of threads of one operation; before torch is loaded by the environment, after that by a call."""
    if count:
        os.environ["OMP_NUM_THREADS"] = str(count)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(count)


class _Declared:
    """A recipe of which a stage sees what dvc.yaml declares: a section it reads unseen would leave its results stale."""

    def __init__(self, recipe: Recipe, stage: str, sections: set[str]) -> None:
        self._recipe, self._stage, self._sections = recipe, stage, sections | {"scale", "engine"}

    def __getattr__(self, name: str) -> Any:
        if name not in self._sections:
            raise QI2Error(f"stage {self._stage} reads {name!r}, which is not among its params in dvc.yaml; add it there")
        return getattr(self._recipe, name)


def _definition(stage: str, scale: str) -> dict[str, Any]:
    stages = yaml.safe_load((settings.ROOT / "dvc.yaml").read_text())["stages"]
    if stage not in stages:
        raise QI2Error(f"unknown stage {stage!r}; dvc.yaml has {', '.join(stages)}")
    body = stages[stage]["do"]
    return json.loads(json.dumps(body).replace("${item}", scale))  # type: ignore[no-any-return]


def _sections(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of the resolved configuration that the stage reads."""
    (path, keys), *_ = entry["params"][0].items()
    values = yaml.safe_load((settings.ROOT / path).read_text())
    return {key: values[key] for key in keys if key in values}


def _params(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flatten(_sections(entry)).items() if value is not None}


def _hashes(entry: Mapping[str, Any]) -> dict[str, str]:
    """{input: hash}: the manifest's hash of a published folder, else of the files themselves."""
    found = {}
    for name in entry.get("deps", []):
        path = settings.ROOT / name
        manifest = path / MANIFEST
        files = [manifest] if manifest.exists() else sorted(path.rglob("*.py")) if path.is_dir() else [path]
        digest = hashlib.sha256("".join(file_sha256(file) for file in files if file.exists()).encode())
        found[name] = digest.hexdigest()[:16]
    return found


def _origin(entry: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides a stage's result: its parameters, and the hashes of what it reads."""
    return {**_params(entry), **_hashes(entry)}


def _tags(stage: str, scale: str, seed: int, entry: Mapping[str, Any]) -> dict[str, str]:
    inputs = {f"dvc.in.{name}": digest for name, digest in _hashes(entry).items() if name.startswith("runs/")}
    return {
        "stage": stage,
        "scale": scale,
        "seed": str(seed),
        "git.revision": revision(settings.ROOT),
        "prefect.flow_run_id": os.environ.get(FLOW_RUN, "none"),
        **inputs,
    }


def _publish_figures(runs: Path, stage: str, out: Path) -> dict[str, float]:
    """Copy metrics.json and curves.csv to where dvc.yaml expects a stage's metrics and plots; return the metrics."""
    source = out / "metrics.json"
    values = json.loads(source.read_text()) if source.exists() else {}
    numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
    for folder in ("metrics", "plots"):
        (runs / folder).mkdir(exist_ok=True)
    (runs / "metrics" / f"{stage}.json").write_text(json.dumps(numbers, indent=1, sort_keys=True))
    curves = out / "curves.csv"
    if curves.exists():
        shutil.copyfile(curves, runs / "plots" / f"{stage}.csv")
    else:
        with open(runs / "plots" / f"{stage}.csv", "w", newline="") as handle:
            csv.writer(handle).writerow(["step", "name", "value"])
    return numbers


def _forward(scale: str, stage: str) -> None:
    from tasks import tracking

    forwarder = tracking.Forwarder(tracking.client(), events_folder(scale, stage), f"qi2-{scale}")
    forwarder.pump()
    forwarder.fail()


def _record(runs: Path, stage: str, started: float, timer: Timer) -> None:
    finished = time.time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)
    seconds = {f"{name}_s": round(timer.seconds.get(name, 0.0), 2) for name in ("import", "compute", "evaluate")}
    facts = {"wall_s": round(finished - started, 2), **seconds, "peak_rss_mib": round(peak)}
    append(runs / "timings.jsonl", stage=stage, **facts, started=started, finished=finished)


def _end_with_flow(told: Path) -> None:
    """Stop this process when the flow that started it is gone, so that a killed flow leaves nothing that trains on.

    It gets what a flow that lives sends, a SIGTERM, on which training finishes its step and saves; no second one where ``told`` says that it had its
    first. What still works after the grace time is ended by force.
    """
    if FLOW_PID not in os.environ:
        return
    flow = int(os.environ[FLOW_PID])

    def watch() -> None:
        while _lives(flow):
            time.sleep(2)
        if not told.exists():
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(settings.grace_s())
        os._exit(143)

    threading.Thread(target=watch, daemon=True).start()


def _lives(pid: int) -> bool:
    """Whether a process works; one that is dead but whose parent has not asked for its status (as in many containers) does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
