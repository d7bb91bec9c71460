"""``python -m tasks report``: the static page and summary.json of a scale's results."""

import json
import os
from pathlib import Path

from qi2.arena.section import section
from qi2.evaluation.report import build_report
from qi2.evaluation.run_folder import RunFolder
from tasks import config, settings, tracking

EXPERIMENT = "QI2_EXPERIMENT"  # id of the MLflow experiment of the line's run
PRICE = "QI2_USD_PER_HOUR"  # of this machine, for the cost of every stage


def main(scale: str) -> None:
    """Build ``runs/SCALE/report/``: with the votes on the run's pictures, links into MLflow, and cost where QI2_USD_PER_HOUR is set."""
    runs = settings.runs_folder(scale)
    arena = section(RunFolder(runs), Path("votes") / f"{scale}.sqlite")
    build_report(config.read(scale), runs, runs / "report", [arena], links(runs), float(os.environ.get(PRICE, "0")))


def links(runs: Path) -> dict[str, str]:
    """Where MLflow shows the line's run and each stage's, as far as they are known: by the flow that builds the report, else by the last that did."""
    finished, records = runs / "finished.json", runs / "records.jsonl"
    known = json.loads(finished.read_text()) if finished.exists() else {}
    run, experiment = os.environ.get(tracking.PARENT) or known.get("mlflow_run"), os.environ.get(EXPERIMENT) or known.get("experiment")
    if not run or not experiment:
        return {}
    rows = [json.loads(line) for line in records.read_text().splitlines()] if records.exists() else []
    stages = {row["stage"]: row["mlflow_run"] for row in rows if row.get("mlflow_run")}
    return {name: tracking.run_link(one, experiment) for name, one in {"line": run, **stages}.items()}
