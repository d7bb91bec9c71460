"""What must not be done twice at once takes turns, and a process that is killed leaves nothing behind that others wait for."""

import subprocess
import sys
import time
from pathlib import Path

from tests.flows.conftest import ROOT

SLOW = "import sys, time; open(sys.argv[1], 'a').write('begin '); time.sleep(float(sys.argv[2])); open(sys.argv[1], 'a').write('end ')"


def _start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, str(folder / "log"), str(seconds)]
    alone = [sys.executable, str(ROOT / "flows" / "alone.py"), str(folder / "new" / "lock"), "the other"]
    return subprocess.Popen([*alone, *command], stderr=subprocess.PIPE, text=True)


def _wait_for_begin(folder: Path) -> None:
    while not (folder / "log").exists():
        time.sleep(0.05)


def test_a_second_process_says_what_it_waits_for_and_begins_when_the_first_has_ended(tmp_path: Path) -> None:
    first = _start(tmp_path, 1)
    _wait_for_begin(tmp_path)
    said = _start(tmp_path, 0).communicate(timeout=60)[1]
    assert first.wait() == 0
    assert said == "waiting for the other\n"
    assert (tmp_path / "log").read_text() == "begin end begin end "


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    first = _start(tmp_path, 600)
    _wait_for_begin(tmp_path)
    first.kill()
    first.wait()
    assert _start(tmp_path, 0).communicate(timeout=60)[1] == ""
