"""The report's links into MLflow: of the flow that builds it, else of the last that did, and none that is not known."""

import json
from pathlib import Path

import pytest

from tasks import report


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    rows = [{"stage": "vae", "mlflow_run": "old"}, {"stage": "vae", "mlflow_run": "new"}, {"stage": "sft", "mlflow_run": None}]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_stage_links_to_its_last_run_and_the_line_to_the_flow_that_builds_the_report(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / "finished.json").write_text(json.dumps({"mlflow_run": "before", "experiment": "7"}))
    assert report.links(runs)["line"].endswith("/#/experiments/7/runs/before")
    monkeypatch.setenv("QI2_PARENT_RUN", "now")
    monkeypatch.setenv("QI2_EXPERIMENT", "8")
    found = report.links(runs)
    assert set(found) == {"line", "vae"}
    assert found["line"].endswith("/#/experiments/8/runs/now") and found["vae"].endswith("/#/experiments/8/runs/new")


def test_a_line_that_no_flow_has_finished_has_no_links(runs: Path) -> None:
    assert report.links(runs) == {}
