"""Which process of a distributed run this is, from the names that torchrun, Lightning's launcher and Slurm set; needs no torch."""

import os


def is_main() -> bool:
    """Whether this process may write results: global rank 0, or a process that nothing distributed has started.

    torchrun says the global rank itself (RANK). Lightning's launcher sets LOCAL_RANK and NODE_RANK, Slurm SLURM_PROCID; processes that were launched
    inside a Slurm allocation inherit its 0, so that all of them have to be 0. Raises ValueError for one that is not a number.
    """
    rank = os.environ.get("RANK")
    if rank is not None:
        return int(rank) == 0
    return all(int(os.environ.get(name, "0")) == 0 for name in ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def started() -> int:
    """How many processes a launcher has started in all, by torchrun or Lightning (WORLD_SIZE) or srun (SLURM_STEP_NUM_TASKS); 1 without one."""
    return int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_STEP_NUM_TASKS", "1")))


def local_rank() -> int:
    """Which process of its machine this one is: by torchrun and Lightning's launcher (LOCAL_RANK), or Slurm (SLURM_LOCALID); 0 for one alone."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
