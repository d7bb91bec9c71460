"""A stage ends with the flow that started it, and computes with its own number of threads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qi2.config import load
from qi2.recipe import Recipe
from tasks.stage import FLOW_PID, own_threads

STAGE = """
import signal, sys, time
from pathlib import Path
from tasks.stage import _end_with_flow
if sys.argv[2] == "saves":
    signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit(75)))
elif sys.argv[2] == "hangs":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
_end_with_flow(Path(sys.argv[1]))
while True:
    time.sleep(0.1)
"""


@pytest.mark.parametrize(("kind", "code"), [("plain", -15), ("saves", 75), ("hangs", 143), ("told", 143)])
def test_a_stage_ends_with_a_killed_flow_even_when_nobody_has_asked_for_its_status(tmp_path: Path, kind: str, code: int) -> None:
    told = tmp_path / "stopping"
    if kind == "told":  # by the flow, before it died: a second signal would cut the saving short
        told.touch()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as flow:
        flow.kill()
        os.waitid(os.P_PID, flow.pid, os.WEXITED | os.WNOWAIT)
        environment = {**os.environ, FLOW_PID: str(flow.pid), "QI2_GRACE_S": "3"}
        done = subprocess.run([sys.executable, "-c", STAGE, told, kind], env=environment, timeout=120, check=False)
    assert done.returncode == code


def test_a_stage_s_own_threads_count_before_the_recipe_s() -> None:
    recipe = load(Recipe, [{"threads": 1, "standins": {"threads": 2}}])
    assert {stage: own_threads(recipe, stage) for stage in ("vlm", "sft", "vae")} == {"vlm": 2, "sft": 1, "vae": 1}
