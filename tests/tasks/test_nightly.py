"""Nights against a real MLflow store: quiet ones, and one on which the model was damaged."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from qi2.core.errors import QI2Error
from qi2.evaluation import night
from tasks import config, nightly, settings, tracking
from tests.evaluation.untrained import build_run

SMOKE = settings.ROOT / "conf" / "scale" / "smoke.yaml"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with an untrained student in a bundle, and an empty sqlite store."""
    root = tmp_path_factory.mktemp("project")
    (root / "conf" / "scale").mkdir(parents=True)
    (root / "conf" / "scale" / "smoke.yaml").write_text(SMOKE.read_text())
    (root / "conf" / "nightly.yaml").write_text("smoke: {rotation: 2, prompts_per_kind: 3, least: 3, most: 3, pictures: 15}\n")
    build_run(root / "bundle", ("distill",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "ROOT", root)
        patch.setattr(settings, "STATE", root / ".qi2")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        OmegaConf.save(config.resolve("smoke"), root / "bundle" / "recipe.yaml")
        yield root


def _night(project: Path, day: int, version: str = "1") -> dict:
    return nightly.Night("smoke", tracking.client(), {"champion": nightly.Entry(version, project / "bundle")}, day).evaluate()


def test_the_same_subset_comes_again_with_the_same_verdicts(project: Path) -> None:
    first = _night(project, 10)
    assert first["verdict"].startswith("First evaluation")
    other = _night(project, 11)
    assert {row["against"] for row in other["rows"]} == {"1 nights"}
    again = _night(project, 12)
    assert {row["against"] for row in again["rows"]} == {"same prompts before", "1 nights"}
    assert all(row["before"] == row["now"] for row in again["rows"] if row["against"] == "same prompts before")
    assert "0 pictures were drawn, all others had been before" in Path(again["page"]).read_text()  # the same model on the same prompts
    assert not again["alert"]


def test_a_night_that_is_tried_again_is_compared_with_the_one_before_it(project: Path) -> None:
    kept = nightly.home("smoke") / "subset-0"
    again = _night(project, 12)
    assert (nightly._day(kept / "champion"), nightly._day(kept / "champion.before")) == (12, 10)
    assert {row["against"] for row in again["rows"]} == {"same prompts before", "1 nights"}


def test_what_fails_anew_is_shown_with_both_pictures(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verdict of the night before is made right, so that what an untrained model draws is a fall."""
    kept = nightly.home("smoke") / "subset-0" / "champion" / "results.json"
    results = json.loads(kept.read_text())
    for row in results["t2i"]["results"]["distill"]:
        row["all"] = True
    kept.write_text(json.dumps(results))
    weights = project / "bundle" / "distill" / "model.safetensors"
    tensors = {name: torch.zeros_like(value) for name, value in load_file(weights).items()}
    save_file(tensors, weights)
    found = _night(project, 14, version="2")
    assert found["alert"]
    fallen = next(row for row in found["rows"] if row["name"] == "champion t2i" and row["against"].startswith("same prompts"))
    assert (fallen["before"], fallen["now"], fallen["against"]) == (1.0, 0.0, "same prompts before, version 1")
    page = Path(found["page"]).read_text()
    assert page.count("data:image/png") >= 2 * nightly.SHOWN
    assert "worse" in page
    store = tracking.client()
    assert any(item.path == "index.html" for item in store.list_artifacts(found["mlflow_run"]))


def test_an_unknown_setting_is_named(project: Path) -> None:
    (project / "conf" / "nightly.yaml").write_text("smoke: {budgets: 3}\n")
    with pytest.raises(QI2Error, match="budgets"):
        nightly.settings_of("smoke")


def test_settings_of_every_scale_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ROOT", SMOKE.parents[2])
    assert all(isinstance(nightly.settings_of(scale), night.NightlyConfig) for scale in settings.SCALES)
