"""The flows themselves, on a Prefect server of their own: the data gate stops them, an unchanged run does nothing, failures say why."""

import json
from typing import Any

import pytest
import yaml

from flows.dag import Dag
from flows.preflight import problems
from flows.run import parameters
from qi2.core.errors import QI2Error
from tasks import settings
from tests.flows.conftest import ROOT, Project

STAGE = '''"""A stage that takes no time."""
import json, os, time
from qi2.core.errors import QI2Error
from qi2.core.publish import publish
OUT = "{out}"
def run(recipe, runs, out, reporter):
    if "{stage}" == "vae" and recipe.seed == 13:
        raise QI2Error("seed 13 is bad luck; choose another")
    time.sleep({{"encode": 1, "rewards": 5}}.get("{stage}", 0))
    if "{stage}" == "encode" and recipe.encode.captions == 3:
        raise QI2Error("3 captions are one too many")
    with publish(out) as folder:
        (folder / "metrics.json").write_text(json.dumps({{"{stage}/x": 1.0}}))
        if "{stage}" == "curate":
            from tests.flows import curated
            curated.write(folder, duplicate=bool(os.environ.get("PLANT_DUPLICATE")))
    reporter.metrics({{"train/loss": 0.5}}, 1)
'''


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What four runs of the journey to the VAE and one of that to RL did, and which slots were taken after one was lost."""
    project = Project(tmp_path_factory.mktemp("flows") / "qi2")
    for stage in ("ingest", "vlm", "curate", "datasets", "vae", "encode", "rewards"):
        out = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["do"]["outs"][0].rsplit("/", 1)[1]
        (project.root / "tasks" / f"{stage}.py").write_text(STAGE.format(stage=stage, out=out))
    (project.root / "tests" / "flows").mkdir(parents=True)
    for name in ("scenario.py", "curated.py"):
        (project.root / "tests" / "flows" / name).write_text((ROOT / "tests" / "flows" / name).read_text())
    store = f"sqlite:///{project.root}/mlflow.db"
    server = {name: value for name, value in settings.environment().items() if name.startswith("PREFECT_SERVER_CONCURRENCY")}
    server |= {"PREFECT_HOME": str(project.root / ".qi2" / "prefect"), "PREFECT_SERVER_EPHEMERAL_ENABLED": "true"}
    done = project.run("-m", "tests.flows.scenario", MLFLOW_TRACKING_URI=store, **server)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_data_that_fail_their_expectations_stop_the_flow_with_a_link(told: dict[str, Any]) -> None:
    bad = told["bad_data"]
    assert bad["state"] == "Failed"
    assert bad["ran"] == ["ingest", "vlm", "curate"]
    assert "id: column values to be unique failed for 2 rows" in bad["message"]
    assert "runs/smoke/data_docs/index.html" in bad["message"]


def test_mended_data_pass_and_only_what_changed_runs(told: dict[str, Any]) -> None:
    assert told["mended"]["state"] == "Completed"
    assert told["mended"]["ran"] == ["curate", "vae"]


def test_an_unchanged_run_does_nothing_and_says_so(told: dict[str, Any]) -> None:
    assert told["unchanged"]["state"] == "Completed"
    assert told["unchanged"]["ran"] == []
    assert "unchanged" in told["unchanged"]["events"]


def test_a_failing_stage_is_not_tried_again_and_says_why(told: dict[str, Any]) -> None:
    failing = told["failing_stage"]
    assert failing["state"] == "Failed"
    assert failing["ran"] == ["ingest", "vlm", "curate"]
    assert "seed 13 is bad luck; choose another" in failing["message"]


def test_a_stage_beside_a_failing_one_ends_and_its_record_is_kept(told: dict[str, Any]) -> None:
    beside = told["failing_beside"]
    assert beside["state"] == "Failed"
    assert "3 captions are one too many" in beside["message"]
    assert set(beside["started"]) - set(beside["ran"]) == {"encode"}
    assert beside["ran"][-1] == "rewards"  # it was running when encode failed, for nothing starts after that
    assert beside["recorded"][-1] == "rewards"


def test_checkpoints_are_kept_until_a_result_is_recorded(told: dict[str, Any]) -> None:
    assert [told[name]["kept"] for name in ("mended", "failing_stage", "failing_beside")] == [[], ["vae"], ["encoded"]]


def test_a_slot_that_was_lost_is_freed_and_one_with_a_lease_is_kept(told: dict[str, Any]) -> None:
    taken = {name: slots for name, slots in told["slots"].items() if name in ("dvc-workspace", "scale-smoke")}
    assert taken == {"dvc-workspace": 0, "scale-smoke": 1}


def test_a_night_does_not_wait_for_ever_for_a_run_of_its_scale(told: dict[str, Any]) -> None:
    assert told["night"] == "went on"


def test_every_journey_has_a_deployment_and_the_night_has_a_schedule() -> None:
    given = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    journeys = {"full_training", "curate", "train_vae", "train_stage", "train_rewards", "rlhf", "distill", "evaluate", "nightly_eval", "flywheel"}
    assert {entry["entrypoint"].rsplit(":", 1)[1] for entry in given} == journeys
    assert all((ROOT / entry["entrypoint"].split(":")[0]).exists() and entry["name"] == "prod" for entry in given)
    (night,) = [entry for entry in given if entry["entrypoint"].endswith("nightly_eval")]
    assert night["schedules"][0]["cron"]
    assert night["schedules"][0]["timezone"]


def test_parameters_of_a_run_come_from_the_command_line() -> None:
    assert parameters("tiny", [], None) == {"scale": "tiny"}
    assert parameters("tiny", ["sft.dropout=0.2", "data.source=/photos"], "sft") == {
        "scale": "tiny",
        "overrides": {"sft.dropout": 0.2, "data.source": "/photos"},
        "from_stage": "sft",
    }
    with pytest.raises(QI2Error, match="KEY=VALUE"):
        parameters("tiny", ["sft.dropout"], None)


def test_a_port_in_use_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setattr("flows.preflight.ROOT", ROOT / "nowhere")
        monkeypatch.setenv("QI2_PREFECT_PORT", str(port))
        (problem,) = problems(("ports",))
    assert f"Port {port}" in problem
    assert f"QI2_PREFECT_PORT={port + 1}" in problem


def test_make_help_lists_every_target_of_the_readme() -> None:
    import subprocess

    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("run", "test", "up", "down", "ui", "status", "deploy", "reproduce", "check", "clean"):
        assert f"make {target} " in text


def test_journeys_stop_at_their_target() -> None:
    assert Dag("tiny").order("curate") == ["ingest", "vlm", "curate"]
    assert Dag("tiny").order("vae")[-1] == "vae"
