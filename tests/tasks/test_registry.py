"""Promotion against a real MLflow store: the first passing model is champion, a worse one is refused and says why."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mlflow
from qi2.core.errors import QI2Error
from qi2.core.publish import publish
from tasks import beside, comparison, config, policy, promote, registry, rollback, settings, tracking
from tasks.jsonl import append

NOT_WORSE = [{"suite": "t2i", "verdict": "all", "margin": 0.05}]
RULES = policy.Policy("distill", ["distill"], {"t2i/accuracy/distill": {"at_least": 0.5}}, NOT_WORSE)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder of its own with an empty sqlite store."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        (root / "mlflow").symlink_to(settings.ROOT / "mlflow")
        (root / "conf" / "scale").mkdir(parents=True)
        (root / "conf" / "scale" / "tiny.yaml").write_text((settings.ROOT / "conf" / "scale" / "tiny.yaml").read_text())
        patch.setattr(settings, "ROOT", root)
        patch.setattr(settings, "STATE", root / ".qi2")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        config.write("tiny")
        yield root


def _train(root: Path, weights: str, right: int) -> Path:
    """What a run leaves: a model folder and its evaluation, ``right`` of 200 prompts drawn right."""
    runs = root / "runs" / "tiny"
    with publish(runs / "distill") as folder:
        (folder / "model.safetensors").write_text(weights)
        (folder / "metrics.json").write_text(json.dumps({"distill/parameters": 1000}))
    figure = {"value": right / 200, "low": right / 200 - 0.05, "high": right / 200 + 0.05, "n": 200}
    rows = [{"all": index < right} for index in range(200)]
    results = {"suite": {"hashes": {"t2i": "s"}}, "figures": {"t2i/accuracy/distill": figure}, "t2i": {"results": {"distill": rows}}}
    with publish(runs / "evaluate") as folder:
        (folder / "results.json").write_text(json.dumps(results))
    return runs


def _decide(root: Path, weights: str, right: int) -> dict[str, Any]:
    return promote.Offer("tiny", _train(root, weights, right), RULES, tracking.client()).decide()


def test_promotion_through_the_life_of_a_registry(project: Path) -> None:
    too_weak = _decide(project, "noise", 60)
    assert too_weak["outcome"] == "refused"
    assert too_weak["reasons"] == ["t2i/accuracy/distill: 0.300 is below 0.5"]

    first = _decide(project, "good", 150)
    assert (first["outcome"], first["version"]) == ("champion", "2")

    worse = _decide(project, "worse", 120)
    assert worse["outcome"] == "refused"
    assert "the difference to the champion is -0.150" in worse["reasons"][0]

    store = registry.Registry(tracking.client(), "qi2-tiny")
    assert str(store.alias("champion").version) == "2"
    assert str(store.alias("challenger").version) == "3"
    assert "difference to the champion" in store.alias("challenger").tags["reasons"]

    again = _decide(project, "good", 150)
    assert again["reasons"] == ["this very model is the champion already"]
    assert len(store.versions()) == 3


def test_the_champion_is_laid_out_for_use_without_a_tracker(project: Path) -> None:
    folder = project / "runs" / "tiny" / "champion"
    facts = json.loads((folder / "champion.json").read_text())
    assert facts["version"] == "2"
    assert (folder / facts["stage"] / "model.safetensors").read_text() == "good"
    assert (folder / "recipe.yaml").exists()


def test_a_version_carries_its_model_card(project: Path) -> None:
    champion = registry.Registry(tracking.client(), "qi2-tiny").alias("champion")
    assert "| t2i/accuracy/distill | 0.75 |" in champion.description
    assert "Promoted to champion." in champion.description


def test_every_decision_is_a_run_with_its_evidence(project: Path) -> None:
    store = tracking.client()
    runs = store.search_runs([tracking.experiment_id(store, "qi2-tiny")], "tags.kind = 'decision'", order_by=["start_time ASC"])
    assert [run.data.tags["outcome"] for run in runs] == ["refused", "champion", "refused"]
    evidence = mlflow.artifacts.load_dict(f"{runs[2].info.artifact_uri}/decision.json")
    assert evidence["policy"]["thresholds"] == RULES.thresholds
    assert [check["name"] for check in evidence["checks"] if not check["passed"]] == ["t2i/all against the champion"]


def test_a_rollback_crowns_the_champion_before_and_keeps_the_other_out(project: Path) -> None:
    assert _decide(project, "better", 180)["version"] == "4"
    tracker = tracking.client()
    with pytest.raises(QI2Error, match="say why"):
        rollback.roll_back("tiny", tracker, "", "")
    with pytest.raises(QI2Error, match="no other version 9"):
        rollback.roll_back("tiny", tracker, "9", "six fingers")
    said = rollback.roll_back("tiny", tracker, "", "six fingers")
    assert (said["version"], said["reasons"]) == ("2", ["version 4 was rolled back: six fingers"])
    assert (project / "runs" / "tiny" / "champion" / "distill" / "model.safetensors").read_text() == "good"
    again = _decide(project, "better", 180)
    assert (again["outcome"], again["reasons"]) == ("refused", ["version 4 was rolled back: six fingers"])
    assert str(registry.Registry(tracker, "qi2-tiny").alias("champion").version) == "2"
    with pytest.raises(QI2Error, match="no earlier champion"):
        rollback.roll_back("tiny", tracker, "", "again")


def test_events_become_a_run_and_no_events_become_none(project: Path, tmp_path: Path) -> None:
    from PIL import Image

    from tasks.events import FILE, EventReporter

    tracker = tracking.client()
    forwarder = tracking.Forwarder(tracker, tmp_path / "events", "qi2-tiny")
    forwarder.pump()
    assert forwarder.run_id is None

    reporter = EventReporter(tmp_path / "events")
    reporter.open("sft@tiny", {"stage": "sft"}, {"sft.steps": 3})
    reporter.metrics({"train/loss": 1.0}, 1)
    forwarder.pump()
    reporter.metrics({"train/loss": 0.5}, 2)
    reporter.image("samples/prompt0", Image.new("RGB", (8, 8)), 2)
    reporter.close("FINISHED", {"final/loss": 0.5})
    forwarder.pump()

    assert forwarder.run_id is not None
    run = tracker.get_run(forwarder.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"sft.steps": "3"}
    assert run.data.tags["stage"] == "sft"
    assert [(m.step, m.value) for m in tracker.get_metric_history(run.info.run_id, "train/loss")] == [(1, 1.0), (2, 0.5)]
    assert any(item.path.endswith(".png") for item in tracker.list_artifacts(run.info.run_id, "images"))
    append(tmp_path / "events" / FILE, kind="metrics", values={}, step=3)
    forwarder.pump()


def test_evaluated_models_become_runs_that_compare_by_equal_keys(project: Path) -> None:
    figures = {f"t2i/accuracy/{model}": {"value": value} for model, value in (("sft", 0.7), ("rlhf", 0.8))}
    with publish(project / "runs" / "tiny" / "evaluate") as folder:
        (folder / "results.json").write_text(json.dumps({"figures": figures | {"edit/done/sft": {"value": 0.5}, "edit/done_source": {"value": 0.0}}}))
        for model in ("sft", "rlhf", "source"):
            (folder / "samples" / model).mkdir(parents=True)
            Image.new("RGB", (32, 32), "red").save(folder / "samples" / model / "t2i-0.png")
    for _ in range(2):  # a flow that is tried again logs them once
        comparison.log_models("tiny", "parent")
    store = tracking.client()
    runs = store.search_runs([tracking.experiment_id(store, "qi2-tiny-models")], order_by=["start_time ASC"])
    assert [(run.info.run_name, run.data.metrics) for run in runs] == [("SFT", {"t2i/accuracy": 0.7, "edit/done": 0.5}), ("RL", {"t2i/accuracy": 0.8})]
    for run in runs:
        assert any("samples" in file.path and "prompt0" in file.path for file in store.list_artifacts(run.info.run_id, "images"))


def _rewards(root: Path, right: int) -> Path:
    """What the stage `rewards` leaves of one of them: 200 pairs whose labels are right for 180, and a judge that is right as often as said and sure of 0.87."""
    runs = root / "runs" / "tiny"
    rows = ["prompt,label,truth,difference,first,tie,second"]
    for i in range(200):
        ahead = i < right
        first = 0.87 if ahead else 0.13
        rows.append(f"p{i},{1 if (7 * i) % 200 < 180 else -1},1,{1 if ahead else -1},{first},0,{1 - first}")
    with publish(runs / "rewards") as folder:
        (folder / "portrait").mkdir()
        (folder / "portrait" / "judged.csv").write_text("\n".join(rows))
        (folder / "metrics.json").write_text(json.dumps({"reward/portrait/accuracy": 0.9, "reward/portrait/n": 200}))
    (runs / "standins" / "vlm").mkdir(parents=True, exist_ok=True)
    (runs / "standins" / "vlm" / "weights").write_text("vlm")
    return runs


def test_rewards_are_registered_together_and_the_thresholds_decide_on_their_alias(project: Path) -> None:
    store = tracking.client()
    assert beside.register("rewards", "tiny", project / "runs" / "nothing", store) is None
    good = beside.register("rewards", "tiny", _rewards(project, 190), store)
    assert good is not None
    assert (good["model"], good["version"], good["outcome"]) == ("qi2-tiny-rewards", "1", "champion"), good
    again = beside.register("rewards", "tiny", project / "runs" / "tiny", store)
    assert again is not None
    assert (again["version"], again["outcome"]) == ("1", "champion")
    bad = beside.register("rewards", "tiny", _rewards(project, 140), store)
    assert bad is not None
    assert bad["outcome"] == "refused"
    assert any(reason.startswith("reward/portrait/of_ceiling: 0.") for reason in bad["reasons"])
    models = registry.Registry(store, "qi2-tiny-rewards")
    assert (str(models.alias("champion").version), str(models.alias("challenger").version)) == ("1", "2")
    folder = models.folder("1")
    assert (folder / "rewards" / "portrait" / "judged.csv").exists()
    assert (folder / "standins" / "vlm" / "weights").read_text() == "vlm"
    assert "| reward/portrait/of_ceiling |" in (folder / "model_card.md").read_text()


@pytest.mark.parametrize(("recovered", "change", "outcome"), [(0.7, 0.0, "champion"), (0.3, 0.0, "refused"), (0.7, -0.2, "refused")])
def test_the_enhancer_is_registered_and_has_to_recover_half_without_spoiling_full_prompts(project: Path, recovered: float, change: float, outcome: str) -> None:
    runs = project / "runs" / "tiny"
    with publish(runs / "enhancer") as folder:
        (folder / "model.safetensors").write_text(f"weights {recovered} {change}")
    values = {"enhancer/t2i/recovered/rewritten": recovered, "enhancer/t2i/full_change": change, "enhancer/t2i/accuracy_by_kind/one/short": 0.1}
    figures = {name: {"value": value, "low": value, "high": value, "n": 100} for name, value in values.items()}
    (runs / "evaluate").mkdir(parents=True, exist_ok=True)
    (runs / "evaluate" / "results.json").write_text(json.dumps({"figures": figures}))
    said = beside.register("enhancer", "tiny", runs, tracking.client())
    assert said is not None
    assert (said["model"], said["outcome"]) == ("qi2-tiny-enhancer", outcome), said
    folder = registry.Registry(tracking.client(), "qi2-tiny-enhancer").folder(said["version"])
    assert (folder / "enhancer" / "model.safetensors").exists()
    assert "recovered/rewritten" in (folder / "model_card.md").read_text() and "by_kind" not in (folder / "model_card.md").read_text()
