"""Who scores the shards: processes of this machine, or a Dask or Ray cluster through Prefect's own task runners.

A cluster's workers need qi2 and must see the run's folder under the same path. In a flow, every shard is a task run of it; without a
server, Prefect starts one for the time of the call.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from qi2.core.errors import QI2Error
from qi2.data.curate_config import CurateConfig
from qi2.data.executors import local
from qi2.data.shard_scores import Executor, ShardDone, ShardTask, score_shard

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner


def executor(config: CurateConfig) -> Executor:
    """The executor that ``curate.executor`` names; raises QI2Error for an unknown one and for one that is not installed."""
    if config.executor == "processes":
        return local(config.workers)
    if config.executor not in RUNNERS:
        raise QI2Error(f"curate.executor={config.executor!r} is none of processes, {', '.join(RUNNERS)}")
    try:
        runner = RUNNERS[config.executor](config.address, max(1, config.workers))
    except ImportError as error:
        raise QI2Error(f"curate.executor={config.executor} needs prefect-{config.executor}: pip install 'qi2[{config.executor}]' ({error})") from error
    return partial(_run, runner=runner)


def _dask(address: str, workers: int) -> "TaskRunner[Any]":
    from prefect_dask import DaskTaskRunner

    if address:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(cluster_kwargs={"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None})


def _ray(address: str, workers: int) -> "TaskRunner[Any]":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from prefect_ray import RayTaskRunner

    return RayTaskRunner(address=address) if address else RayTaskRunner(init_kwargs={"num_cpus": workers, "include_dashboard": False})


RUNNERS: dict[str, Callable[[str, int], "TaskRunner[Any]"]] = {"dask": _dask, "ray": _ray}


def _run(tasks: Sequence[ShardTask], runner: "TaskRunner[Any]") -> Iterator[ShardDone]:
    from prefect import flow, task
    from prefect.futures import as_completed

    one = task(score_shard, name="score shard", task_run_name="{task.shard}", persist_result=False)

    @flow(name="score-shards", task_runner=runner, persist_result=False)
    def score_shards() -> list[ShardDone]:
        futures = {one.submit(shard): shard for shard in tasks}
        return [_outcome(future, futures[future]) for future in as_completed(list(futures))]

    with _server():
        yield from score_shards()


def _outcome(future: Any, shard: ShardTask) -> ShardDone:
    """The future's result; a worker that was lost costs its own shard alone."""
    try:
        done: ShardDone = future.result()
    except Exception as error:  # the cluster's own: a lost worker, a task that cannot be sent
        return ShardDone(shard.shard, shard.rows, error=f"{type(error).__name__}: {error}")
    return done


def _server() -> AbstractContextManager[Any]:
    """A Prefect server for the time of the call, where none is running."""
    import httpx
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings

    try:
        httpx.get(f"{PREFECT_API_URL.value()}/health", timeout=2).raise_for_status()
    except httpx.HTTPError:
        return temporary_settings({PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True}, restore_defaults={PREFECT_API_URL})
    return nullcontext()
