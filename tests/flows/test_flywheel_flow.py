"""The flywheel's flow on a Prefect server of its own: it ends without a stage where nothing is acted on, and where people have to look first."""

import json
import shutil
from typing import Any

import pytest
import yaml

from flows.dag import Dag
from tests.flows.conftest import ROOT, Project


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What three calls of the flow did."""
    project = Project(tmp_path_factory.mktemp("flywheel") / "qi2")
    shutil.copytree(ROOT / "tests", project.root / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    store = f"sqlite:///{project.root}/mlflow.db"
    environment = {"PREFECT_HOME": str(project.root / ".qi2" / "prefect"), "PREFECT_SERVER_EPHEMERAL_ENABLED": "true", "MLFLOW_TRACKING_URI": store}
    done = project.run("-m", "tests.flows.flywheel_scenario", OMP_NUM_THREADS="1", **environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_round_that_acts_on_nothing_runs_no_stage_and_says_so(told: dict[str, Any]) -> None:
    nothing = told["nothing"]
    assert (nothing["state"], nothing["phase"], nothing["number"]) == ("Completed", "nothing", 1)
    assert "changes nothing" in nothing["message"]
    assert nothing["counts"]["none"] > 0
    assert nothing["stages"] == []
    assert not nothing["layer"]


def test_a_round_mines_training_prompts_where_it_has_a_budget_and_says_what_that_cost(told: dict[str, Any]) -> None:
    mined = told["nothing"]["mined"]
    assert mined["prompts"] == mined["pictures"] == 11 and 0 < mined["new"] == mined["found"] and mined["seconds"] > 0
    assert told["waiting"]["mined"] is None


def test_a_round_that_waits_for_people_ends_with_a_message_and_no_stage(told: dict[str, Any]) -> None:
    waiting = told["waiting"]
    assert (waiting["state"], waiting["phase"], waiting["number"]) == ("Completed", "review", 2)
    assert "wait for review" in waiting["message"]
    assert waiting["counts"]["pretraining"] > 0
    assert waiting["stages"] == []
    assert not waiting["layer"]


def test_called_again_it_is_the_same_round_that_waits(told: dict[str, Any]) -> None:
    assert told["again"]["number"] == told["waiting"]["number"]
    assert told["again"]["phase"] == "review"


def test_accepted_data_concern_sft_and_what_follows_alone() -> None:
    dag = Dag("tiny")
    assert {"accepted", "sft", "rlhf", "distill", "evaluate"} <= dag.downstream({"accepted"})
    assert not {"ingest", "vlm", "curate", "datasets", "vae", "encode", "pretrain", "continual", "rewards"} & dag.downstream({"accepted"})


def test_a_change_of_the_rl_track_concerns_rlhf_and_what_follows_alone() -> None:
    stages = {name: entry["do"] for name, entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()}
    readers = {name for name, body in stages.items() if body.get("params") and "rlhf" in next(iter(body["params"][0].values()))}
    assert readers == {"rlhf"}
