"""What a resumed run has reported is what an undisturbed one reports."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from qi2.core.reporter import FileReporter, NullReporter, Reporter, Reporters
from tasks.events import EventReporter
from tasks.jsonl import Follower


def _say(reporter: Reporter, steps: range) -> None:
    for step in steps:
        reporter.metrics({"train/loss": 1 / (step + 3), "train/rate": 0.1}, step)
        if step % 2 == 0:
            reporter.image("grid/one", Image.new("RGB", (4, 4), (step, 0, 0)), step)
    reporter.text("notes.txt", f"until {steps.stop}")


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _both(folder: Path) -> Reporters:
    return Reporters(NullReporter(), FileReporter(folder / "files"), EventReporter(folder / "events"))


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("make", [lambda folder: FileReporter(folder / "files"), _both])
def test_after_a_kill_the_curves_and_pictures_are_those_of_an_undisturbed_run(tmp_path: Path, make: Callable[[Path], Reporter], repeated: bool) -> None:
    undisturbed = make(tmp_path / "undisturbed")
    _say(undisturbed, range(5))
    _say(undisturbed, range(5, 9))
    killed = make(tmp_path / "killed")
    _say(killed, range(5))
    kept = killed.state()
    _say(killed, range(5, 7))  # after the checkpoint, lost with the process
    shutil.rmtree(tmp_path / "killed")
    resumed = make(tmp_path / "resumed")
    if repeated:  # what comes before the training that the checkpoint is of
        resumed.metrics({"train/loss": 1 / 3, "train/rate": 0.1}, 0)
    resumed.restore(kept)
    _say(resumed, range(5, 9))
    assert _files(tmp_path / "resumed" / "files") == _files(tmp_path / "undisturbed" / "files")
    if isinstance(resumed, Reporters):
        assert _events(tmp_path / "resumed") == _events(tmp_path / "undisturbed")


def _events(folder: Path) -> list[dict[str, object]]:
    lines = Follower(folder / "events" / "events.jsonl").read()
    for line in lines:
        del line["time"]
        if "path" in line:
            line["path"] = Path(str(line["path"])).read_bytes()
    return lines
