"""The tasks beside the stages: data gate, promotion, time summary, report, and what is shown at the end."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows import timing
from flows.dag import Dag
from flows.stage import StageRecord
from qi2.core.errors import QI2Error
from tasks import checks, comparison, settings, tracking


class DataRefused(QI2Error):
    """The curated data fail their expectations."""


def call(step: str, scale: str, **environment: str) -> None:
    """Run ``python -m tasks STEP`` and raise QI2Error with the end of what it said when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "tasks", step, "--scale", scale],
        cwd=settings.ROOT,
        env={**settings.environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise QI2Error("\n".join(done.stderr.splitlines()[-25:]) or f"{step} ended with status {done.returncode}")


@task(cache_policy=NO_CACHE)
def gate(scale: str, outs: Mapping[str, str]) -> None:
    """Let the curated data pass or stop the flow, with a link to Data Docs; what has passed is not checked again."""
    mark = settings.ROOT / settings.runs_folder(scale) / "gate_passed"
    rules = (settings.ROOT / "tasks" / "gate.py").read_text()
    key = hashlib.sha256((json.dumps(dict(outs), sort_keys=True) + rules).encode()).hexdigest()
    if mark.exists() and mark.read_text() == key:
        get_run_logger().info("the curated data passed these expectations before")
        return
    try:
        call("gate", scale)
    except QI2Error as error:
        _link_docs(scale)
        raise DataRefused(str(error)) from None
    _link_docs(scale)
    mark.write_text(key)


def _link_docs(scale: str) -> None:
    path = checks.result_file(scale)
    docs = json.loads(path.read_text())["docs_path"] if path.exists() else ""
    if docs:
        create_link_artifact(link=Path(docs).resolve().as_uri(), link_text="Data Docs of the curated data", key=f"data-docs-{scale}")


@task(cache_policy=NO_CACHE)
def promote(scale: str, flow_run_id: str, parent_run: str) -> dict[str, Any]:
    """Register the model as challenger and let the policy decide; returns the decision with its reasons."""
    call("promote", scale, QI2_PARENT_RUN=parent_run, QI2_FLOW_RUN=flow_run_id)
    decision: dict[str, Any] = json.loads((settings.ROOT / settings.runs_folder(scale) / "promotion.json").read_text())
    head = f"{decision['model']} version {decision['version']}: {decision['outcome']}"
    text = f"### {head}\n\n" + "\n".join(f"- {reason}" for reason in decision["reasons"])
    create_markdown_artifact(markdown=text, key=f"promotion-{scale}", description="What the promotion policy decided, and why")
    get_run_logger().info("%s. %s", head, "; ".join(decision["reasons"]))
    return decision


@task(cache_policy=NO_CACHE)
def report(scale: str, parent_run: str, experiment: str) -> None:
    """Build the page and summary.json, with links to the MLflow runs."""
    call("report", scale, QI2_PARENT_RUN=parent_run, QI2_EXPERIMENT=experiment)


def summarise_time(scale: str, dag: Dag, records: Sequence[StageRecord], started: float) -> None:
    """Write timing.json for the report: useful compute against everything else, and the peak of memory."""
    runs = settings.ROOT / settings.runs_folder(scale)
    (runs / "timing.json").write_text(json.dumps(timing.summarise(runs, list(dag.stages), records, started), indent=1))


def figures(scale: str) -> dict[str, dict[str, float]]:
    """The figures of the last report; empty before one."""
    path = settings.ROOT / settings.runs_folder(scale) / "report" / "summary.json"
    return json.loads(path.read_text())["figures"] if path.exists() else {}


def log_to_parent(run_id: str, scale: str) -> None:
    """Put the summary's figures and the report itself into the parent run, so that whole runs compare in the UI, and its models into theirs."""
    tracker = tracking.client()
    folder = settings.ROOT / settings.runs_folder(scale) / "report"
    tracking.log_metrics(tracker, run_id, {f"figure/{name}": figure["value"] for name, figure in figures(scale).items()})
    tracker.log_artifacts(run_id, str(folder), "report")
    comparison.log_models(scale, run_id)


def show(scale: str, finished: Mapping[str, Any], records: Sequence[StageRecord]) -> None:
    """Artifacts of the Prefect UI: the table of figures, the stages, and links to the MLflow run and the report."""
    keys = ("value", "low", "high", "n")
    rows = [{"figure": name, **{key: _round(figure.get(key)) for key in keys}} for name, figure in figures(scale).items()]
    if rows:
        create_table_artifact(table=rows, key=f"summary-{scale}", description=f"All figures of {scale}, with 95% intervals")
    if records:
        table = [{"stage": r.stage, "reused": r.reused, "seconds": round(r.span_s, 1), "mlflow_run": r.mlflow_run} for r in records]
        create_table_artifact(table=table, key=f"stages-{scale}", description="What ran, and what DVC found unchanged")
    if run := finished.get("mlflow_run"):
        create_link_artifact(link=tracking.run_link(run, finished["experiment"]), link_text="MLflow run", key=f"mlflow-run-{scale}")
    page = settings.ROOT / settings.runs_folder(scale) / "report" / "index.html"
    create_link_artifact(link=page.as_uri(), link_text="report", key=f"report-{scale}", description=str(page.relative_to(settings.ROOT)))


def _round(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
