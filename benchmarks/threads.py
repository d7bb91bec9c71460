"""Seconds per training step with one and with two threads, of the stages that run alone: ``python -m benchmarks.threads``.

Needs the results of scale tiny (``make run``), which it leaves as they are, and an idle machine. A step costs the difference of a long
and a short run, each in a process of its own, so that loading and measuring what was trained do not count.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = {"vlm": ("standins.vlm.steps", 6, 36), "vae": ("vae.steps", 10, 60), "rlhf": ("rlhf.steps", 1, 5), "distill": ("distill.steps", 4, 16)}


def seconds(stage: str, threads: int, steps: int) -> float:
    """Wall seconds of one stage of so many steps, in a new process."""
    command = [sys.executable, "-m", "benchmarks.threads", "--stage", stage, "--threads", str(threads), "--steps", str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def train(stage: str, threads: int, steps: int) -> float:
    """Wall seconds of one stage of so many steps, in this process; what it makes is thrown away."""
    import torch

    from qi2.config import load
    from qi2.core.reporter import NullReporter
    from qi2.recipe import Recipe
    from tasks import settings

    torch.set_num_threads(threads)
    recipe = load(Recipe, [settings.ROOT / "conf" / "scale" / "tiny.yaml"], [f"{STEPS[stage][0]}={steps}"])
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        for result in (settings.ROOT / settings.runs_folder("tiny")).glob("[!.]*"):  # not the checkpoints of stages that were killed
            (runs / result.name).symlink_to(result)
        task = importlib.import_module(f"tasks.{stage}")
        start = time.monotonic()
        task.run(recipe, runs, runs / f"{stage}-measured", NullReporter())
        return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__)
    parser.add_argument("--stage", choices=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=0)
    given = parser.parse_args()
    if given.stage:
        print(train(given.stage, given.threads, given.steps))
        return
    print("stage     1 thread   2 threads   ratio")
    for stage, (_, short, long) in STEPS.items():
        one, two = ((seconds(stage, n, long) - seconds(stage, n, short)) / (long - short) for n in (1, 2))
        print(f"{stage:8} {one:8.3f} s {two:9.3f} s {one / two:7.2f}", flush=True)


if __name__ == "__main__":
    main()
