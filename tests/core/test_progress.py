"""What progress says of work that an earlier process began."""

import json
from pathlib import Path

import pytest

from qi2.core import progress
from qi2.core.progress import Progress


def test_rate_and_time_left_are_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("QI2_PROGRESS_FILE", str(tmp_path / "progress.jsonl"))
    with Progress("sft", 1000, done=900) as told:
        now[0] += 10
        told.update(20)
    first, later, _ = map(json.loads, (tmp_path / "progress.jsonl").read_text().splitlines())
    assert (first["done"], first["eta_s"]) == (900, None)
    assert (later["done"], later["rate"], later["eta_s"]) == (920, 2.0, 40.0)
