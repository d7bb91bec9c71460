"""A kill while DVC writes leaves the file from before, whole."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from flows.dvc import mend_table

KILLED = """
import os, signal, sys
from flows import dvc
dvc.write_whole()
from dvc.utils.serialize import _yaml, modify_yaml
whole = _yaml._dump
def cut_off(data, stream):
    whole(data, stream)
    stream.seek(stream.tell() // 2)
    stream.truncate()
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "kill":
    _yaml._dump = cut_off
with modify_yaml(sys.argv[1]) as lock:
    lock["stages"]["sft@tiny"] = {"cmd": "python -m tasks sft"}
"""


def _modify(path: Path, how: str) -> int:
    return subprocess.run([sys.executable, "-c", KILLED, str(path), how], check=False).returncode


def test_a_lock_file_that_is_being_written_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    before = "schema: '2.0'\nstages:\n  vae@tiny:\n    cmd: python -m tasks vae\n"
    path.write_text(before)
    assert _modify(path, "kill") == -signal.SIGKILL
    assert path.read_text() == before
    assert _modify(path, "live") == 0
    assert "sft@tiny" in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["dvc.lock"]


def test_a_table_that_was_cut_off_is_made_anew_and_a_whole_one_stays(tmp_path: Path) -> None:
    table = tmp_path / "rwlock"
    table.write_text('{"read": {"runs/tiny/vae": [{"pid": 1, "cm')
    mend_table(tmp_path)
    assert not table.exists()
    mend_table(tmp_path)
    table.write_text(json.dumps({"read": {}, "write": {}}))
    mend_table(tmp_path)
    assert table.exists()
