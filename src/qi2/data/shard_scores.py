"""The shard as the unit of work: its scores are committed as a whole or not at all, and a finished shard is never scored again.

``SHARD.parquet`` holds the scores, ``SHARD.json`` the key of what they were made from (files, captions, models, limits, code) and their hash.
The JSON is written last; without it, or with another key or hash, the shard counts as unfinished. Thresholds are not part of the key, so new
thresholds cost no decode.
"""

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.publish import file_sha256, write_file
from qi2.data import filters
from qi2.data.curate_config import CurateConfig
from qi2.data.filters.models import ModelPaths
from qi2.data.filters.registry import FILTERS
from qi2.data.filters.stored import Stored
from qi2.data.scoring import File, Limits, Scored, score_files
from qi2.data.sources import fingerprint

if TYPE_CHECKING:
    import pandas as pd

TEXTS, BYTES = ("broken", "pixel_sha256"), ("thumbnail", "embedding")  # all other score columns are numbers
SHOWN = 3  # failed shards that the error names


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs, in this process or on another machine that sees the same folders."""

    shard: str
    files: tuple[File, ...]  # those whose first copy lies in this shard
    raw: Path
    paths: ModelPaths
    models: str  # what tells states of the models apart
    limits: Limits
    out: Path  # folder of finished shards
    key: str

    @property
    def rows(self) -> int:
        return sum(len(file["rows"]) for file in self.files)


@dataclass(frozen=True)
class ShardDone:
    """What became of a task; ``error`` is empty unless it failed. ``peak_mib``: the worker's largest resident size so far."""

    shard: str
    rows: int
    seconds: float = 0.0
    peak_mib: float = 0.0
    error: str = ""


Executor = Callable[[Sequence[ShardTask]], Iterable[ShardDone]]  # runs `score_shard` on every task, and yields in any order


def score_rows(
    rows: "pd.DataFrame", raw: Path, paths: ModelPaths, config: CurateConfig, work: Path, executor: Executor
) -> tuple["pd.DataFrame", float, dict[str, Stored]]:
    """One line of scores per row, indexed like ``rows`` (a sidecar with ``role``), the largest worker in MiB (0: all were finished), and ``BYTES``.

    Only shards that ``work`` does not hold are scored. One that fails stops no other: what is finished stays, then QI2Error names those that failed.
    """
    tasks = plan(rows, raw, paths, Limits.of(config), work)
    left = [task for task in tasks if not finished(task)]
    failed, peak = [], 0.0
    with Progress("curate: score", len(rows), "img") as progress:
        progress.update(sum(task.rows for task in tasks) - sum(task.rows for task in left))
        for done in executor(left) if left else ():
            failed += [done] if done.error else []
            peak = max(peak, done.peak_mib)
            progress.update(done.rows)
    if failed:
        named = "; ".join(f"{done.shard}: {done.error}" for done in failed[:SHOWN])
        raise QI2Error(f"{len(failed)} of {len(tasks)} shards could not be scored ({named}); the others are finished, and a new run scores only these")
    _forget_others(tasks, work)
    table, stored = _read(tasks, rows)
    return table, peak, stored


def plan(rows: "pd.DataFrame", raw: Path, paths: ModelPaths, limits: Limits, out: Path) -> list[ShardTask]:
    """One task per shard. Rows with the same bytes share one decode, with the shard that has the first of them."""
    files: dict[str, File] = {}
    names = ("id", "role", "captions", "shard", "offset", "length", "sha256", "width", "height")
    for name, role, captions, shard, offset, length, sha256, width, height in zip(*(rows[column].tolist() for column in names), strict=True):
        place = {"shard": shard, "offset": offset, "length": length, "sha256": sha256, "pixels": width * height}
        files.setdefault(sha256, {**place, "rows": []})["rows"].append({"id": name, "role": role, "captions": list(captions)})
    by_shard: dict[str, list[File]] = {}
    for file in files.values():
        by_shard.setdefault(file["shard"], []).append(file)
    models = _models(paths)
    made_with = json.dumps([_code(), models, paths.nsfw_label, asdict(limits)])
    return [ShardTask(shard, tuple(own), raw, paths, models, limits, out, _digest(made_with + json.dumps(own))) for shard, own in sorted(by_shard.items())]


def score_shard(task: ShardTask) -> ShardDone:
    """Score and commit one shard; an error becomes part of the answer, so that one bad shard stops no other."""
    begin = time.monotonic()
    try:
        _commit(task, score_files(task.files, task.raw, task.paths, task.models, task.limits))
    except Exception as error:  # whatever it is: the other shards go on, and the caller reports it
        return ShardDone(task.shard, task.rows, error=f"{type(error).__name__}: {error}")
    return ShardDone(task.shard, task.rows, time.monotonic() - begin, _peak_mib())


def finished(task: ShardTask) -> bool:
    """Whether the shard's scores are there, whole, and made from the same things."""
    table, mark = _places(task)
    if not mark.exists() or not table.exists():
        return False
    try:
        facts = json.loads(mark.read_text())
    except ValueError:
        return False
    return bool(facts.get("key") == task.key and facts.get("sha256") == file_sha256(table))


def _places(task: ShardTask) -> tuple[Path, Path]:
    return task.out / f"{task.shard}.parquet", task.out / f"{task.shard}.json"


def _commit(task: ShardTask, scored: Scored) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [column for item in FILTERS for column in item.columns]
    types = {"id": pa.string(), **dict.fromkeys(columns, pa.float64()), **dict.fromkeys(TEXTS, pa.string()), **dict.fromkeys(BYTES, pa.binary())}
    schema = pa.schema([(name, types[name]) for name in ("id", *columns)])
    lines = [{"id": name, **{column: _plain(values.get(column), types[column]) for column in columns}} for name, values in scored.items()]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(lines, schema), sink)
    data = sink.getvalue().to_pybytes()
    table, mark = _places(task)
    task.out.mkdir(parents=True, exist_ok=True)
    write_file(table, data)
    write_file(mark, json.dumps({"key": task.key, "sha256": hashlib.sha256(data).hexdigest(), "rows": task.rows}).encode())


def _plain(value: Any, kind: Any) -> Any:
    return float(value) if value is not None and str(kind) == "double" else value


def _read(tasks: list[ShardTask], rows: "pd.DataFrame") -> tuple["pd.DataFrame", dict[str, Stored]]:
    """The finished shards as one table in the order of ``rows``, texts as objects, None where missing; and where its byte columns are."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = [_places(task)[0] for task in tasks]
    columns = [column for item in FILTERS for column in item.columns if column not in BYTES]
    parts = [pq.read_table(file, columns=["id", *columns]) for file in files]
    table = pa.concat_tables(parts)
    place = pd.Index(table["id"].to_pylist()).get_indexer(pd.Index(rows["id"]))
    frame = pd.DataFrame(index=rows.index)
    for name in columns:
        frame[name] = pd.Series(table[name].to_numpy()[place], index=rows.index, dtype=object if name in TEXTS else float)
    starts = np.cumsum([0, *(len(part) for part in parts)])
    return frame, {name: Stored(files, starts, place, name) for name in BYTES}


def _forget_others(tasks: list[ShardTask], work: Path) -> None:
    """Remove shards that the data no longer has."""
    current = {place for task in tasks for place in _places(task)}
    for path in _files(work):
        if path not in current:
            path.unlink()


def _files(folder: Path) -> Iterator[Path]:
    return (path for pattern in ("*.tar.parquet", "*.tar.json") for path in sorted(folder.glob(pattern)))


def _models(paths: ModelPaths) -> str:
    """Tells two states of the models' folders apart; hub ids stand for themselves."""
    names = (paths.tokenizer, paths.clip, paths.nsfw, paths.aesthetic, paths.orientation)
    return " ".join(fingerprint(name) if name and Path(name).exists() else name for name in names)


def _code() -> str:
    """Digest of the code that makes scores."""
    own = Path(__file__).parent
    sources = [own / "scoring.py", own / "shards.py", *sorted(Path(filters.__path__[0]).glob("*.py"))]
    return _digest("".join(path.read_text() for path in sources))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _peak_mib() -> float:
    """The largest resident size that this process has had; Linux's getrusage would give a new process that of its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
