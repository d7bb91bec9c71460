"""What DVC re-runs, on the real dvc.yaml with quick stages: nothing without a change, and exactly the readers of a changed key."""

import subprocess
import sys
from contextlib import chdir
from typing import Any

import pytest
import yaml

from flows.dag import Dag
from qi2.core.errors import QI2Error
from tests.flows.conftest import ROOT, Project

BODIES: dict[str, Any] = {name: entry["do"] for name, entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()}


@pytest.fixture(scope="module")
def trained(project: Project) -> Project:
    """Every stage of tiny and the first of smoke have run once."""
    project.run("-m", "dvc", "repro", "evaluate@tiny", "rewards@tiny", "ingest@smoke")
    return project


def _readers(section: str) -> set[str]:
    return {name for name, body in BODIES.items() if any(section in next(iter(entry.values())) for entry in body.get("params", []))}


def _reported(project: Project, scale: str) -> set[str]:
    """Stages that DVC itself finds changed (not those that merely follow)."""
    from dvc.repo import Repo

    with chdir(project.root), Repo() as repo:
        changed = repo.status()
    return {name.removesuffix(f"@{scale}") for name in changed if name.endswith(f"@{scale}")} - {"config"}


def test_order_is_that_of_dvc_yaml() -> None:
    order = Dag("tiny").order()
    assert order.index("ingest") < order.index("curate") < order.index("vae") < order.index("pretrain") < order.index("sft")
    assert set(order) == set(BODIES) - {"config"}
    for stage in order:
        assert all(order.index(above) < order.index(stage) for above in Dag("tiny").upstream[stage])


def test_order_agrees_with_dvc(trained: Project) -> None:
    done = trained.run("-m", "dvc", "repro", "--dry", "--force", "evaluate@tiny")
    ran = [line.split("'")[1].removesuffix("@tiny") for line in done.stdout.splitlines() if line.startswith("Running stage")]
    position = {name: index for index, name in enumerate(ran)}
    dag = Dag("tiny")
    assert set(dag.order("evaluate")) == set(ran) - {"config"}
    assert all(position[above] < position[stage] for stage in dag.order("evaluate") for above in dag.upstream[stage])


def test_an_unchanged_rerun_does_nothing(trained: Project) -> None:
    assert Dag("tiny", trained.root).changed() == set()
    done = trained.run("-m", "dvc", "repro", "evaluate@tiny")
    assert [line for line in done.stdout.splitlines() if line.startswith("Running stage")] == ["Running stage 'config@tiny':"]


@pytest.mark.parametrize("change", ["sft: {dropout: 0.123}", "evaluate: {seed: 11}", "curate: {examples: 3}", "sampler: {shift: 1.25}"])
def test_a_changed_key_reruns_exactly_the_stages_that_read_it(trained: Project, change: str) -> None:
    readers = _readers(change.split(":")[0])
    trained.override("tiny", change)
    assert _reported(trained, "tiny") == readers
    trained.override("tiny", "")
    assert _reported(trained, "tiny") == set()


def test_what_follows_a_changed_stage_is_out_of_date_too(trained: Project) -> None:
    trained.override("tiny", "sft: {dropout: 0.123}")
    assert Dag("tiny", trained.root).changed() == {"sft", "rlhf", "distill", "enhancer", "evaluate"}
    trained.override("tiny", "")


def test_the_state_of_a_scale_says_why_a_stage_is_out_of_date(trained: Project) -> None:
    local = trained.root / "conf" / "local" / "tiny.yaml"
    local.write_text("sft: {dropout: 0.123}")  # edited, and not yet resolved by a run
    lines = dict(line.split(maxsplit=1) for line in trained.run("-m", "flows.dag", "tiny").stdout.splitlines())
    local.write_text("")
    told = {"vae": "up to date", "sft": "out of date: sft", "rlhf": "out of date: follows sft"}
    assert {name: lines[name] for name in told} == told


def test_scales_neither_overwrite_nor_invalidate_each_other(trained: Project) -> None:
    model = trained.root / "runs" / "smoke" / "raw" / "model.txt"
    text, state = model.read_text(), _reported(trained, "smoke")
    assert "ingest" not in state
    trained.override("tiny", "seed: 5")
    trained.run("-m", "dvc", "repro", "ingest@tiny")
    assert model.read_text() == text
    assert _reported(trained, "smoke") == state
    trained.override("tiny", "")


def test_reproduce_runs_what_the_target_needs_and_nothing_else(trained: Project) -> None:
    done = trained.run("-m", "dvc", "repro", "--dry", "--force", "sft@smoke")
    ran = {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")}
    assert ran == {f"{name}@smoke" for name in (*Dag("smoke").order("sft"), "config")}


def test_an_unknown_scale_or_stage_is_named() -> None:
    with pytest.raises(QI2Error, match="huge"):
        Dag("huge").order()
    with pytest.raises(QI2Error, match="sftt"):
        Dag("tiny").order("sftt")


def test_the_state_of_a_scale_can_be_printed(trained: Project) -> None:
    done = subprocess.run([sys.executable, "-m", "flows.dag", "huge"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "unknown scale" in done.stderr


@pytest.mark.parametrize("name", ["curated/README.md", "datasets/README.md", "datasets/s1/README.md"])
def test_no_file_of_a_result_escapes_dvc(project: Project, name: str) -> None:
    """What DVC ignores is missing when it fetches a result from its cache, as after a kill."""
    assert project.run("-m", "dvc", "check-ignore", f"runs/tiny/{name}", check=False).returncode == 1
    assert project.run("-m", "dvc", "check-ignore", "README.md", check=False).returncode == 0
