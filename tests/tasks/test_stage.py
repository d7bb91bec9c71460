"""A stage ends with the flow that started it, and computes with its own number of threads."""

import os
import subprocess
import sys

from qi2.config import load
from qi2.recipe import Recipe
from tasks.stage import FLOW_PID, own_threads

STAGE = "import time; from tasks.stage import _end_with_flow; _end_with_flow(); time.sleep(600)"


def test_a_stage_ends_with_a_killed_flow_even_when_nobody_has_asked_for_its_status() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as flow:
        flow.kill()
        os.waitid(os.P_PID, flow.pid, os.WEXITED | os.WNOWAIT)
        done = subprocess.run([sys.executable, "-c", STAGE], env={**os.environ, FLOW_PID: str(flow.pid)}, timeout=120, check=False)
    assert done.returncode == 143


def test_a_stage_s_own_threads_count_before_the_recipe_s() -> None:
    recipe = load(Recipe, [{"threads": 1, "standins": {"threads": 2}}])
    assert {stage: own_threads(recipe, stage) for stage in ("vlm", "sft", "vae")} == {"vlm": 2, "sft": 1, "vae": 1}
