"""MLflow: one parent run per pipeline run, one child per stage; everything in batches, because each call costs milliseconds.

Metrics and images of all stages use the same ``prefix/name`` keys, so that the chart view compares runs.
"""

import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qi2.evaluation.summary import revision
from tasks import settings
from tasks.events import FILE
from tasks.jsonl import Follower

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT = "QI2_PARENT_RUN"
BATCH_PARAMS, BATCH_METRICS = 100, 900


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else the local server when it answers, else the sqlite store that the server uses."""
    if given := os.environ.get("MLFLOW_TRACKING_URI"):
        return given
    try:
        with urllib.request.urlopen(f"{settings.mlflow_url()}/health", timeout=1):
            return settings.mlflow_url()
    except (urllib.error.URLError, OSError):
        (settings.STATE / "mlflow").mkdir(parents=True, exist_ok=True)
        return settings.mlflow_store()


def client() -> "MlflowClient":
    """A client of the tracking store, with telemetry off."""
    os.environ.update(settings.TELEMETRY_OFF)
    os.environ |= {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri())


def experiment_id(tracker: "MlflowClient", name: str) -> str:
    """The experiment of that name, created when there is none; artifacts lie beside the local store."""
    found = tracker.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    local = None if tracker.tracking_uri.startswith("http") else (settings.STATE / "mlflow" / "artifacts").as_uri()
    return str(tracker.create_experiment(name, artifact_location=f"{local}/{name}" if local else None))


def start_run(tracker: "MlflowClient", experiment: str, name: str, tags: Mapping[str, str], parent: str | None = None) -> str:
    """Open a run, as a child of ``parent`` when there is one."""
    nested = {"mlflow.parentRunId": parent} if parent else {}
    run = tracker.create_run(experiment_id(tracker, experiment), tags={**tags, **nested}, run_name=name)
    return str(run.info.run_id)


def run_link(run_id: str, experiment: str) -> str:
    """Where the MLflow UI shows a run; ``experiment`` is its id."""
    return f"{settings.mlflow_url()}/#/experiments/{experiment}/runs/{run_id}"


def log_params(tracker: "MlflowClient", run_id: str, values: Mapping[str, Any]) -> None:
    """Flat parameters, in batches of the server's limit."""
    from mlflow.entities import Param

    params = [Param(key, str(value)[:500]) for key, value in values.items()]
    for start in range(0, len(params), BATCH_PARAMS):
        tracker.log_batch(run_id, params=params[start : start + BATCH_PARAMS])


def log_metrics(tracker: "MlflowClient", run_id: str, values: Mapping[str, float], step: int = 0) -> None:
    """Metrics of one moment, in one call per batch."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
    for start in range(0, len(metrics), BATCH_METRICS):
        tracker.log_batch(run_id, metrics=metrics[start : start + BATCH_METRICS])


@cache
def parent_run(journey: str, scale: str, flow_run_id: str) -> str:
    """The run of one pipeline run, opened at the first call; a retried flow run continues the one that it had."""
    tracker, experiment = client(), f"qi2-{scale}"
    query = f"tags.`prefect.flow_run_id` = '{flow_run_id}' and tags.kind = 'line'"
    found = tracker.search_runs([experiment_id(tracker, experiment)], query, max_results=1)
    if found:
        return str(found[0].info.run_id)
    _end_abandoned(tracker, experiment)
    tags = {"kind": "line", "stage": "line", "scale": scale, "git.revision": revision(settings.ROOT), "prefect.flow_run_id": flow_run_id}
    return start_run(tracker, experiment, f"{journey}@{scale}", tags)


def _end_abandoned(tracker: "MlflowClient", experiment: str) -> None:
    """Mark runs as killed whose flow died: only one flow works on a scale at a time, so whatever still runs there is dead."""
    for run in tracker.search_runs([experiment_id(tracker, experiment)], "attributes.status = 'RUNNING'"):
        if run.data.tags.get("prefect.flow_run_id", "none") != "none":
            tracker.set_terminated(run.info.run_id, "KILLED")


def close_parent(status: str, journey: str, scale: str, flow_run_id: str) -> None:
    """End the pipeline run's own run, if one was opened in this process."""
    if parent_run.cache_info().currsize:
        client().set_terminated(parent_run(journey, scale, flow_run_id), status)


def tag_outputs(run_id: str, outs: Mapping[str, str]) -> None:
    """Note the DVC hashes of what a run has written."""
    from mlflow.entities import RunTag

    client().log_batch(run_id, tags=[RunTag(f"dvc.out.{path}", md5) for path, md5 in outs.items()])


class Forwarder:
    """Passes a stage's events on to MLflow; the run is opened when the first event arrives, so a reused stage leaves none."""

    def __init__(self, tracker: "MlflowClient", folder: Path, experiment: str, parent: str | None = None) -> None:
        self.tracker, self.reader = tracker, Follower(folder / FILE)
        self.experiment, self.parent = experiment, parent
        self.run_id: str | None = None
        self.closed = False

    def pump(self) -> None:
        """Send everything that is new."""
        from mlflow.entities import Metric

        metrics = []
        for event in self.reader.read():
            when = int(event["time"] * 1000)
            if event["kind"] in ("metrics", "close"):
                metrics += [Metric(name, value, when, event.get("step", 0)) for name, value in event["values"].items()]
            if event["kind"] != "metrics":
                metrics = self._send(metrics)
                getattr(self, f"_{event['kind']}")(event)
        self._send(metrics)

    def fail(self) -> None:
        """Close a run whose stage died without a last word."""
        if self.run_id is not None and not self.closed:
            self.tracker.set_terminated(self.run_id, "FAILED")

    def _send(self, metrics: list[Any]) -> list[Any]:
        for start in range(0, len(metrics), BATCH_METRICS):
            self.tracker.log_batch(self.run_id, metrics=metrics[start : start + BATCH_METRICS])
        return []

    def _open(self, event: dict[str, Any]) -> None:
        self.run_id = start_run(self.tracker, self.experiment, event["name"], event["tags"], self.parent)
        log_params(self.tracker, self.run_id, event["params"])

    def _close(self, event: dict[str, Any]) -> None:
        self.tracker.set_terminated(self.run_id, event["status"])
        self.closed = True

    def _image(self, event: dict[str, Any]) -> None:
        from PIL import Image

        with Image.open(event["path"]) as image:
            self.tracker.log_image(self.run_id, image.copy(), key=event["key"], step=event["step"])

    def _text(self, event: dict[str, Any]) -> None:
        self.tracker.log_text(self.run_id, event["text"], event["name"])

    def _file(self, event: dict[str, Any]) -> None:
        self.tracker.log_artifact(self.run_id, event["path"])
