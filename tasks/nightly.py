"""``python -m tasks nightly``: evaluates the registry's champion and challenger and compares them with the evaluation before.

The same suites, prompts and noise every night: a difference means that the model, the code or the machine has changed.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from qi2.core.progress import Progress
from qi2.core.reporter import NullReporter
from qi2.evaluation.summary import revision
from tasks import config, registry, settings, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIASES = ("champion", "challenger")


def result_file(scale: str) -> Path:
    """What the last evaluation of a scale wrote: models, rows, verdict, mlflow_run, experiment."""
    return settings.STATE / "nightly" / scale / "result.json"


def main(scale: str) -> None:
    """Evaluate, log, compare, and write the result."""
    tracker = tracking.client()
    models = registered(tracker, scale)
    result: dict[str, Any] = {"models": {alias: version for alias, (version, _) in models.items()}}
    if models:
        result |= _evaluate(tracker, scale, models)
    result_file(scale).parent.mkdir(parents=True, exist_ok=True)
    result_file(scale).write_text(json.dumps(result, indent=1))


def registered(tracker: "MlflowClient", scale: str) -> dict[str, tuple[str, Path]]:
    """{alias: (version, local folder)} of the models in the registry."""
    store = registry.Registry(tracker, f"qi2-{scale}")
    found = {alias: store.alias(alias) for alias in ALIASES}
    return {alias: (str(version.version), store.folder(version.version)) for alias, version in found.items() if version is not None}


def _evaluate(tracker: "MlflowClient", scale: str, models: Mapping[str, tuple[str, Path]]) -> dict[str, Any]:
    tags = {"kind": "nightly", "stage": "nightly", "scale": scale, "git.revision": revision(settings.ROOT)}
    tags |= {"prefect.flow_run_id": os.environ.get("QI2_FLOW_RUN", "none")}
    experiment = f"qi2-nightly-{scale}"
    before = last_night(tracker, tracking.experiment_id(tracker, experiment))
    parent = tracking.start_run(tracker, experiment, time.strftime("night of %Y-%m-%d", time.gmtime()), tags)
    values: dict[str, float] = {}
    with Progress("nightly", len(models), "model") as progress:
        for alias, (version, folder) in models.items():
            figures = _figures(scale, folder, alias)
            values |= {f"{alias}/{name}": value for name, value in figures.items()}
            child = tracking.start_run(tracker, experiment, f"{alias} v{version}", {**tags, "stage": alias, "version": version}, parent)
            tracking.log_metrics(tracker, child, figures)
            tracker.set_terminated(child, "FINISHED")
            progress.update()
    tracking.log_metrics(tracker, parent, values)
    for alias, (version, _) in models.items():
        tracker.set_tag(parent, f"version.{alias}", version)
    tracker.set_terminated(parent, "FINISHED")
    rows = compare(values, before)
    number = tracker.get_run(parent).info.experiment_id
    return {"rows": rows, "verdict": verdict(rows, bool(before)), "mlflow_run": parent, "experiment": number}


def _figures(scale: str, folder: Path, alias: str) -> dict[str, float]:
    """Evaluate one bundle with the recipe that it was made with, by the suites of the scale's configuration now."""
    from qi2.evaluation.evaluate import evaluate_models

    facts = yaml.safe_load((folder / "recipe.yaml").read_text())
    facts["evaluate"] = yaml.safe_load((settings.ROOT / "conf" / "scale" / f"{scale}.yaml").read_text()).get("evaluate") or {}
    recipe, stage = config.recipe_of(facts), _stage(folder)
    out = settings.STATE / "nightly" / scale / alias
    raw, curated = (settings.ROOT / settings.runs_folder(scale) / name for name in ("raw", "curated"))
    models, given = {stage: folder / stage}, raw if raw.exists() else None
    figures = evaluate_models(recipe, models, folder / "vae", folder / "standins", out, NullReporter(), given, curated)
    return {name: figure.value for name, figure in figures.items()}


def _stage(folder: Path) -> str:
    return next(name for name in ("distill", "rlhf", "sft") if (folder / name).exists())


def last_night(tracker: "MlflowClient", experiment: str) -> dict[str, float]:
    """The figures of the evaluation before; empty when this is the first."""
    query = "tags.kind = 'nightly' and tags.stage = 'nightly' and attributes.status = 'FINISHED'"
    runs = tracker.search_runs([experiment], query, order_by=["attributes.start_time DESC"], max_results=1)
    return dict(runs[0].data.metrics) if runs else {}


def compare(now: Mapping[str, float], before: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row per figure: now, the night before, and the difference (None where it was not measured then)."""
    rows = []
    for name, value in sorted(now.items()):
        former = before.get(name)
        change = None if former is None else round(value - former, 6)
        rows.append({"figure": name, "now": round(value, 6), "before": None if former is None else round(former, 6), "change": change})
    return rows


def verdict(rows: list[dict[str, Any]], compared: bool) -> str:
    """What changed, in one sentence."""
    if not compared:
        return f"First evaluation: {len(rows)} figures, nothing to compare with."
    moved = sorted((row for row in rows if row["change"]), key=lambda row: -abs(row["change"]))
    if not moved:
        return f"Nothing changed: all {len(rows)} figures are those of the night before."
    largest = ", ".join(f"{row['figure']} {row['before']:.4g} -> {row['now']:.4g}" for row in moved[:3])
    return f"{len(moved)} of {len(rows)} figures changed; most of all {largest}."
