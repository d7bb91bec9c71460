"""What scoring by shards costs beyond scoring itself, and how it grows with workers: ``python -m benchmarks.executors``.

Photographs as in ``benchmarks.curation``, each in copies that differ in a comment, in shards, scored without models. ``overhead``: CPU time of
the whole (plan, keys, commits, reading back, and with processes their start and what is sent to them) beyond that of the scores alone, relative
to it; ``speedup``: wall time of one process by that of ``--workers``. ``worker_mib``: the largest worker; ``worker_mib_small_batches``: with an
eighth of the pixels per batch.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.curation import files
from qi2.data.curate_config import CurateConfig
from qi2.data.executors import inline, local
from qi2.data.filters.models import ModelPaths
from qi2.data.scoring import Limits, score_files
from qi2.data.shard_scores import Executor, plan, score_rows
from qi2.data.shards import Row, ShardWriter, Sidecar
from qi2.data.stages import roles

NONE = ModelPaths("", "", "")


def cpu_s(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU seconds of this process and of its children that ended, wall seconds, and the result."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    begin = time.perf_counter()
    result = work()
    wall = time.perf_counter() - begin
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(usage, after, strict=True)), wall, result


def copies(data: bytes, n: int) -> list[bytes]:
    """The same JPEG picture with another comment after its first marker."""
    return [data[:2] + b"\xff\xfe" + (2 + 8).to_bytes(2) + b"%08d" % number + data[2:] for number in range(n)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.executors", description=__doc__)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--shard", type=int, default=250, help="rows of a shard")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        raw = Path(name) / "raw"
        with ShardWriter(raw, given.shard) as writer:
            made = [copy for data in files(given.files) for copy in copies(data, given.copies)]
            for index, data in enumerate(made):
                writer.add(Row(f"r{index:06d}", data, "jpg", ("a photograph of something",), "user"))
        table = Sidecar.load(raw).table
        table = table.assign(role=roles(table))
        config = CurateConfig(workers=given.workers)
        print(json.dumps(measured(table, raw, config, Path(name))))


def measured(table: Any, raw: Path, config: CurateConfig, folder: Path) -> dict[str, float]:
    tasks = plan(table, raw, NONE, Limits.of(config), folder / "unused")
    score_files(tasks[0].files, raw, NONE, "", tasks[0].limits)  # so that nothing is imported or first touched while it is timed
    alone, _, _ = cpu_s(lambda: [score_files(task.files, raw, NONE, "", task.limits) for task in tasks])

    def run(executor: Executor, work: str, changed: CurateConfig = config) -> tuple[float, float, float]:
        cpu, wall, (_, peak, _) = cpu_s(lambda: score_rows(table, raw, NONE, changed, folder / work, executor))
        return cpu, wall, peak

    here, wall_here, _ = run(inline, "inline")
    pool, wall_pool, peak = run(local(config.workers), "pool")
    small = replace(config, batch_pixels=config.batch_pixels // 8)
    values = {"overhead_inline": here / alone - 1, "overhead_processes": pool / alone - 1, "speedup": wall_here / wall_pool}
    values |= {"workers": config.workers, "worker_mib": peak, "worker_mib_small_batches": run(local(config.workers), "small", small)[2]}
    return {key: round(value, 3) for key, value in values.items()}


if __name__ == "__main__":
    main()
