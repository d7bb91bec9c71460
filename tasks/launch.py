"""Stages over several nodes: ``QI2_LAUNCH`` is the command that starts the processes, put before the stage's own.

``QI2_LAUNCH="srun --nodes 4 --ntasks-per-node 8"`` or ``QI2_LAUNCH="torchrun --no-python --nnodes 4 --nproc-per-node 8 ..."``; see docs/scale.md.
Several processes on one machine need none of it: ``engine.devices`` is enough.
"""

import os
import shlex
import sys
from collections.abc import Sequence

LAUNCH, LAUNCHED = "QI2_LAUNCH", "QI2_LAUNCHED"
SHARED = ("pretrain", "continual", "sft", "distill")  # stages whose steps several processes share


def through_launcher(stage: str, arguments: Sequence[str]) -> None:
    """Become the launcher, where there is one and this process is not one that it has started; else do nothing."""
    command = shlex.split(os.environ.get(LAUNCH, ""))
    if not command or stage not in SHARED or LAUNCHED in os.environ:
        return
    os.environ[LAUNCHED] = "1"
    os.execvp(command[0], [*command, sys.executable, "-m", "tasks", *arguments])
