"""Run by test_training_killed.py: trains a tiny MMDiT undisturbed, then in forks that are killed at moments drawn from a seed; prints what happened as JSON.

The parent has torch loaded but never computes, so that a fork costs milliseconds and inherits no threads.
"""

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

from qi2.core.publish import publish
from qi2.core.reporter import FileReporter
from qi2.training.config import EngineConfig
from qi2.training.fit import fit
from tests.training.ranks import Flow

STEPS, NEVER = 10, -1
RESULT, CHECKPOINTS = "result", "checkpoints"


def train(folder: Path) -> None:
    """As a stage of the line does it: a result that is published as a whole, and a checkpoint after every step."""
    torch.set_num_threads(1)
    module = Flow(STEPS, NEVER)
    engine = EngineConfig(dry_run=False, precision="32", curve_points=STEPS, checkpoint_steps=1)
    with publish(folder / RESULT) as staging:
        fit(module, "killed", FileReporter(staging), engine=engine, checkpoints=folder / CHECKPOINTS, ema=0.9)
        module.model.save(staging)


def fork(folder: Path) -> int:
    """Train in a child process; returns its id."""
    child = os.fork()
    if child:
        return child
    try:
        with open(folder.with_suffix(".log"), "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        train(folder)
    except BaseException as error:
        sys.stderr.write(repr(error))
        os._exit(1)
    os._exit(0)


def ended(child: int) -> bool:
    """Wait for a child; whether it ended by itself, not killed. Raises RuntimeError for a failure."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the training ended with {code}")
    return code == 0


def main(folder: Path, wanted: int, seed: int) -> None:
    draw, kills, where = random.Random(seed), list[int](), set[str]()
    started = time.monotonic()
    assert ended(fork(folder / "undisturbed"))
    length = time.monotonic() - started
    while sum(kills) < wanted:
        kills.append(0)
        run = folder / f"run{len(kills)}"
        child = fork(run)
        while True:
            if sum(kills) < wanted:
                time.sleep(draw.uniform(0, length))
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            if ended(child):
                break
            kills[-1] += 1
            where |= {path.name for path in (run / CHECKPOINTS).glob("*step-*")}
            child = fork(run)
    sys.stdout.write(json.dumps({"kills": kills, "seconds": length, "where": sorted(where)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
