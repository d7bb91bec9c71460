"""Work side by side: results in order, reports passed on, errors and stops carried over."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from qi2.core.errors import Interrupted, QI2Error
from qi2.core.lanes import RelayReporter, say, side_by_side
from qi2.core.reporter import FileReporter, NullReporter, Reporter


def report(name: str, reporter: Reporter) -> str:
    from PIL import Image

    reporter.metrics({f"{name}/loss": 0.5}, 1)
    reporter.image(f"{name}/seen", Image.new("RGB", (4, 4), (1, 2, 3)), 2)
    return name


def refuse(reporter: Reporter) -> None:
    raise QI2Error("the table is empty; give rows")


def vanish(reporter: Reporter) -> None:
    sys.stdout.flush()
    os._exit(7)


def wait_for_the_signal(started: str, saved: str, reporter: Reporter) -> None:
    def stop(signum: int, frame: object) -> None:
        Path(saved).write_text("saved")
        raise Interrupted("step 3 is saved")

    signal.signal(signal.SIGTERM, stop)
    Path(started).touch()
    time.sleep(60)


def stop_the_parent(started: str, reporter: Reporter) -> None:
    while not Path(started).exists():
        time.sleep(0.02)
    os.kill(os.getppid(), signal.SIGTERM)


def test_results_come_in_the_order_of_the_works_and_their_reports_pass_through(tmp_path: Path) -> None:
    found = side_by_side([partial(report, "first"), partial(report, "second")], FileReporter(tmp_path))
    assert found == ["first", "second"]
    assert sorted((tmp_path / "curves.csv").read_text().split()) == ["1,first/loss,0.5", "1,second/loss,0.5", "step,name,value"]
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["first_seen@2.png", "second_seen@2.png"]


def test_an_error_in_one_process_stops_the_others_and_is_raised_here(tmp_path: Path) -> None:
    started, saved = tmp_path / "started", tmp_path / "saved"
    with pytest.raises(QI2Error, match="the table is empty; give rows"):
        side_by_side([refuse, partial(wait_for_the_signal, str(started), str(saved))], NullReporter())
    assert not started.exists() or saved.read_text() == "saved"


def test_a_process_that_dies_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="ended with code 7"):
        side_by_side([vanish], NullReporter())


def test_sigterm_lets_every_process_save_and_ends_as_interrupted(tmp_path: Path) -> None:
    started, saved = tmp_path / "started", tmp_path / "saved"
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="step 3 is saved"):
        side_by_side([partial(wait_for_the_signal, str(started), str(saved)), partial(stop_the_parent, str(started))], NullReporter())
    assert saved.read_text() == "saved"
    assert signal.getsignal(signal.SIGTERM) == before


def test_after_a_resume_what_was_said_before_is_said_again_once(tmp_path: Path) -> None:
    heard: list[object] = []
    first = RelayReporter(heard.append)
    first.metrics({"a": 1.0}, 1)
    first.text("notes.md", "text")
    again = RelayReporter(heard.append)
    again.metrics({"a": 1.0}, 1)
    heard.clear()
    again.restore(first.state())
    assert heard == [{"kind": "text", "name": "notes.md", "text": "text"}]
    say(FileReporter(tmp_path), heard[0])  # type: ignore[arg-type]
    assert (tmp_path / "notes.md").read_text() == "text"
