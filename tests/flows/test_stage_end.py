"""A stage that is told to stop is waited for until all of it is gone; only then may a retry begin."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows.stack import end_flows
from flows.stage import KILLED, end_group

STAGE = """
import signal, sys, time
from pathlib import Path
def save(*_):
    time.sleep(1.5)
    Path(sys.argv[1]).write_text("saved")
    sys.exit(75)
signal.signal(signal.SIGTERM, save if sys.argv[2] == "saves" else signal.SIG_IGN)
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""
FLOW = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: os.killpg(child.pid, signal.SIGTERM))
sys.exit(child.wait())
"""
WORKER = """
import signal, subprocess, sys
flow = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]])
signal.signal(signal.SIGTERM, lambda *_: (flow.kill(), sys.exit(0)))
flow.wait()
signal.pause()
"""
DVC = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"  # dies at once when it is told to, as DVC does


def _started(saved: Path, kind: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    command = [sys.executable, "-c", DVC, STAGE, str(saved), kind]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child, psutil.Process(child.pid).children()[0]


def _gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("dvc_killed", [False, True])
def test_a_stage_saves_before_anything_else_begins(tmp_path: Path, dvc_killed: bool) -> None:
    child, stage = _started(tmp_path / "saved", "saves")
    if dvc_killed:
        child.kill()
        child.wait()
    end_group(child, tmp_path / "events" / "stopping")
    assert _gone(stage)
    assert (tmp_path / "saved").read_text() == "saved"
    assert (tmp_path / "events" / "stopping").exists()


def test_a_stage_that_does_not_end_is_killed_after_the_grace_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QI2_GRACE_S", "1")
    child, stage = _started(tmp_path / "saved", "hangs")
    started = time.monotonic()
    end_group(child, tmp_path / "stopping")
    time.sleep(0.2)
    assert _gone(stage)
    assert 1 <= time.monotonic() - started < 10


def test_a_stage_saves_before_the_worker_is_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, FLOW, DVC, STAGE, str(tmp_path / "saved"), "saves"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
        family = psutil.Process(worker.pid).children(recursive=True)
        end_flows(psutil.Process(worker.pid))
        assert len(family) == 3 and all(map(_gone, family))
        assert (tmp_path / "saved").read_text() == "saved"
        assert worker.poll() is None
        worker.kill()


def test_a_stage_that_has_ended_is_told_nothing(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], text=True, start_new_session=True)
    child.wait()
    end_group(child, tmp_path / "stopping")
    assert not (tmp_path / "stopping").exists()


def test_a_stage_that_was_told_to_stop_is_tried_again() -> None:
    said = "ERROR: failed to reproduce 'sft@smoke': failed to run: python -m tasks sft --scale smoke, exited with {}"
    assert [code for code in ("1", "2", "75", "-9", "137", "143", "175") if KILLED.search(said.format(code))] == ["75", "-9", "137", "143"]


@pytest.mark.parametrize(
    "said",
    [
        "RuntimeError: DataLoader worker (pid 27605) is killed by signal: Killed.",
        "RuntimeError: DataLoader worker (pid(s) 7, 8) exited unexpectedly",
        "concurrent.futures.process.BrokenProcessPool: A process in the process pool was terminated abruptly while the future was running or pending.",
    ],
)
def test_a_stage_whose_worker_was_killed_is_tried_again(said: str) -> None:
    assert KILLED.search(said + "\nERROR: failed to reproduce 'vae@smoke': failed to run: python -m tasks vae --scale smoke, exited with 1")
