"""Who scores the shards: this process, or a pool of processes on this machine. Clusters come from outside the library (see tasks/executors.py)."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from qi2.data.shard_scores import Executor, ShardDone, ShardTask, score_shard

DIED = "its worker died, probably for lack of memory; lower curate.batch_pixels or curate.workers"


def local(workers: int) -> Executor:
    """The executor of this machine; 0 workers: this process."""
    return partial(processes, workers=workers) if workers else inline


def inline(tasks: Sequence[ShardTask]) -> Iterator[ShardDone]:
    """One shard after the other."""
    return map(score_shard, tasks)


def processes(tasks: Sequence[ShardTask], workers: int) -> Iterator[ShardDone]:
    """As many shards at a time as there are workers.

    A worker that dies takes the pool with it. The shards that may have killed it are then tried alone, and the others in a new pool.
    """
    left = list(tasks)
    while left:
        unfinished: set[str] = set()
        for task, done in _pool(left, workers):
            if done is None:
                unfinished.add(task.shard)
            else:
                yield done
        left = [task for task in left if task.shard in unfinished]  # in their order: the first ones were being scored
        for task in left[: workers + 1]:
            yield next(_pool([task], 1))[1] or ShardDone(task.shard, task.rows, error=DIED)
        left = left[workers + 1 :]


def _pool(tasks: Sequence[ShardTask], workers: int) -> Iterator[tuple[ShardTask, ShardDone | None]]:
    """Every task with its result, or with None where the pool broke before."""
    with ProcessPoolExecutor(min(workers, len(tasks)), multiprocessing.get_context("spawn")) as pool:
        futures: dict[Future[ShardDone], ShardTask] = {pool.submit(score_shard, task): task for task in tasks}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                yield futures[future], None
