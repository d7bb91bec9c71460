"""What a run tells of its time when stages ran side by side, and what the terminal shows of them."""

import json
from pathlib import Path

import pytest

from flows import terminal, timing
from flows.stage import StageRecord
from flows.timing import Span


def test_time_in_which_two_stages_ran_counts_once() -> None:
    assert timing.covered([Span(0, 10), Span(5, 12), Span(20, 21), Span(6, 7)]) == 13
    assert timing.covered([]) == 0


def test_the_summary_of_a_run_with_stages_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = [("vae", 1000.0, 1040.0), ("encode", 1042.0, 1080.0), ("rewards", 1043.0, 1085.0)]
    lines = [
        {"stage": stage, "started": start, "finished": end, "wall_s": end - start, "peak_rss_mib": 512, "import_s": 8.0, "compute_s": end - start - 8}
        | {"evaluate_s": 0.0}
        for stage, start, end in clocks
    ]
    (tmp_path / "timings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr("time.time", lambda: 1090.0)
    found = timing.summarise(tmp_path, ["vae", "encode", "rewards"], [], started=1085.0)
    assert found["total_s"] == 5 + 40 + 43
    assert found["compute_s"] == 32 + 35
    assert found["peak_gib"] == 0.5
    assert found["stages"]["vae"] == {"import": 8.0, "compute": 32.0, "evaluate": 0.0, "orchestration": 0.0}
    record = StageRecord("rewards", "tiny", True, {}, None, 3.0, 0.0, finished=1089.0)
    assert timing.summarise(tmp_path, ["vae", "encode", "rewards"], [record], started=1085.0)["flow_s"] == 2.0


def test_the_terminal_shows_every_stage_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    screen = terminal.Screen()
    for name, index in (("encode", 5), ("rewards", 9)):
        screen.event({"event": "stage", "name": name, "state": "started", "index": index, "of": 12})
    screen.event({"event": "step", "job": "rewards", "text": "waiting for the stage of another run"})
    screen.event({"job": "encode", "label": "images", "done": 3, "total": 12, "rate": 1.5, "eta_s": 6.0})
    screen.printed = 0.0
    screen.tick("RUNNING")
    screen.event({"event": "stage", "name": "rewards", "state": "finished", "index": 9, "of": 12})
    lines = capsys.readouterr().out.splitlines()
    assert "encode     images  25% 3/12 1.5/s, left 0:06 | [ 9/12] rewards    waiting for the stage of another run ..., total 0:00" in lines[2]
    assert "rewards    done in" in lines[3]
