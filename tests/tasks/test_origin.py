"""A stage goes on only from checkpoints of its own inputs, parameters and code; what starts its processes is put before it once."""

import os
from pathlib import Path

import pytest

from qi2.core.errors import QI2Error
from tasks import launch, origin

FACTS = {"sft.steps": 100, "runs/tiny/encoded": "abc"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    origin.check(tmp_path / "sft", FACTS, "refuse")
    (tmp_path / "sft" / "step-00000010").mkdir()
    return tmp_path / "sft"


def test_checkpoints_of_the_same_origin_stay(folder: Path) -> None:
    origin.check(folder, dict(reversed(FACTS.items())), "refuse")
    assert (folder / "step-00000010").exists()


def test_a_changed_input_is_refused_by_name_and_nothing_is_lost(folder: Path) -> None:
    with pytest.raises(QI2Error, match="runs/tiny/encoded: abc then, abd now.*on_change"):
        origin.check(folder, {**FACTS, "runs/tiny/encoded": "abd"}, "refuse")
    origin.check(folder, FACTS, "refuse")
    assert (folder / "step-00000010").exists()


@pytest.mark.parametrize(("on_change", "kept"), [("restart", False), ("accept", True)])
def test_a_change_does_what_the_engine_is_told(folder: Path, on_change: str, kept: bool, capsys: pytest.CaptureFixture) -> None:
    origin.check(folder, {**FACTS, "sft.steps": 120}, on_change)
    assert (folder / "step-00000010").exists() == kept
    assert "sft.steps: 100 then, 120 now" in capsys.readouterr().err


def test_what_a_finished_run_went_on_from_makes_way_for_another(folder: Path) -> None:
    origin.finish(folder)
    origin.check(folder, FACTS, "refuse")
    assert (folder / "step-00000010").exists()
    origin.finish(folder)
    origin.check(folder, {**FACTS, "sft.steps": 120}, "refuse")
    assert not (folder / "step-00000010").exists()


def test_the_launcher_comes_before_a_shared_stage_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda _, command: calls.append(command))
    monkeypatch.setenv(launch.LAUNCH, "srun --nodes 2")
    monkeypatch.delenv(launch.LAUNCHED, raising=False)
    launch.through_launcher("rewards", ["rewards"])
    launch.through_launcher("sft", ["sft", "--scale", "small"])
    launch.through_launcher("sft", ["sft", "--scale", "small"])
    monkeypatch.delenv(launch.LAUNCHED)
    assert len(calls) == 1
    assert calls[0][:3] == ["srun", "--nodes", "2"]
    assert calls[0][-5:] == ["-m", "tasks", "sft", "--scale", "small"]
