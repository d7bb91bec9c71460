"""The shard as the unit of work: committed whole, never scored twice, and one bad shard stops no other."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qi2.core.errors import QI2Error
from qi2.data import executors
from qi2.data.curate import model_paths
from qi2.data.curate_config import CurateConfig
from qi2.data.filters.stored import Stored
from qi2.data.scoring import Limits, batches
from qi2.data.shard_scores import Executor, ShardDone, ShardTask, score_rows, score_shard
from qi2.data.shards import Sidecar
from qi2.data.stages import roles
from tests.data.conftest import distinct_scenes, scene_row, write_raw


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Five shards of four rows."""
    return write_raw(tmp_path / "raw", [scene_row(f"row-{index:02d}", scene) for index, scene in enumerate(distinct_scenes(20))], shard_rows=4)


@pytest.fixture
def score(raw: Path, standins: Path, lenient: CurateConfig) -> Iterator:
    """Scores the five shards with an executor, into ``work`` beside them."""

    def run(executor: Executor) -> pd.DataFrame:
        table = Sidecar.load(raw).table
        table = table.assign(role=roles(table))
        return score_rows(table, raw, model_paths(standins, lenient), lenient, raw.parent / "work", executor)[0]

    return run


class Counting:
    """Runs shards in this process and remembers which."""

    def __init__(self, stop_after: int = 99) -> None:
        self.shards: list[str] = []
        self.stop_after = stop_after

    def __call__(self, tasks: Sequence[ShardTask]) -> Iterator[ShardDone]:
        for task in tasks:
            if len(self.shards) == self.stop_after:
                raise KeyboardInterrupt
            self.shards.append(task.shard)
            yield score_shard(task)


def test_a_killed_run_redoes_only_unfinished_shards(score, raw: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(Counting(stop_after=3))
    second = Counting()
    resumed = score(second)
    assert second.shards == ["shard-0003.tar", "shard-0004.tar"]
    third = Counting()
    pd.testing.assert_frame_equal(score(third), resumed)
    assert third.shards == []


def test_a_torn_or_changed_shard_of_scores_is_made_again(score, raw: Path) -> None:
    whole = score(Counting())
    torn = raw.parent / "work" / "shard-0001.tar.parquet"
    torn.write_bytes(torn.read_bytes()[:-40])
    (raw.parent / "work" / "shard-0002.tar.json").write_text('{"key": ')
    again = Counting()
    pd.testing.assert_frame_equal(score(again), whole)
    assert again.shards == ["shard-0001.tar", "shard-0002.tar"]


def test_one_bad_shard_stops_no_other_and_is_named(score, raw: Path) -> None:
    lost = (raw / "shard-0002.tar").read_bytes()
    (raw / "shard-0002.tar").unlink()
    with pytest.raises(QI2Error, match="1 of 5 shards could not be scored .shard-0002.tar: FileNotFoundError"):
        score(Counting())
    (raw / "shard-0002.tar").write_bytes(lost)
    second = Counting()
    assert score(second)["broken"].isna().all()
    assert second.shards == ["shard-0002.tar"]


def test_a_worker_that_dies_costs_its_own_shard_alone(score, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "score_shard", _die_at_the_third)
    with pytest.raises(QI2Error, match="1 of 5 shards could not be scored .shard-0002.tar: its worker died"):
        score(executors.local(2))
    second = Counting()
    score(second)
    assert second.shards == ["shard-0002.tar"]


def _die_at_the_third(task: ShardTask) -> ShardDone:
    if task.shard == "shard-0002.tar":
        os._exit(9)
    return score_shard(task)


def test_new_captions_are_scored_and_new_thresholds_are_not(score, raw: Path, lenient: CurateConfig) -> None:
    score(Counting())
    lenient.stage1.min_clip = 0.9
    again = Counting()
    score(again)
    assert again.shards == []
    table = pd.read_parquet(raw / "sidecar.parquet")
    table.at[5, "captions"] = ["something else"]
    table.to_parquet(raw / "sidecar.parquet")
    score(again)
    assert again.shards == ["shard-0001.tar"]


def test_bytes_of_any_rows_are_read_from_the_files_that_hold_them(tmp_path: Path) -> None:
    values = [[b"aaaa", None, b"bbbb"], [None], [b"cccc", b"dddd", None]]
    files = [tmp_path / f"{number}.parquet" for number in range(3)]
    for file, part in zip(files, values, strict=True):
        pq.write_table(pa.table({"embedding": pa.array(part, pa.binary())}), file)
    stored = Stored(files, np.array([0, 3, 4, 7]), np.array([5, 6, 0, 2, 3, 4, 0]), "embedding")  # the table's order, one of the file's rows left out
    assert stored.given.tolist() == [True, False, True, True, False, True, True]
    assert [row.tobytes() for row in stored.take(np.array([6, 0, 3, 5, 0]))] == [b"aaaa", b"dddd", b"bbbb", b"cccc", b"dddd"]
    assert len(stored.take(np.array([], int))) == 0


def test_a_worker_holds_no_more_pixels_than_allowed() -> None:
    limits = Limits("cpu", batch_size=4, batch_pixels=100, max_pixels=80)
    files = [{"pixels": pixels} for pixels in (30, 30, 40, 1, 500, 20, 1, 1, 1, 1)]
    sizes = [[min(file["pixels"], 80) for file in batch] for batch in batches(files, limits)]
    assert sizes == [[30, 30, 40], [1, 80], [20, 1, 1, 1], [1]]
