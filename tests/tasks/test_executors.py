"""Shards are scored by Dask and Ray clusters, started on this machine, as by its own processes."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from qi2.core.errors import QI2Error
from qi2.data.curate import model_paths
from qi2.data.curate_config import CurateConfig
from qi2.data.shard_scores import score_rows
from qi2.data.shards import ShardWriter, Sidecar
from qi2.data.stages import roles
from tasks.executors import executor
from tests.data.conftest import distinct_scenes, lenient_config, scene_row, standins  # noqa: F401


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Four shards of four rows."""
    with ShardWriter(tmp_path / "raw", shard_rows=4) as writer:
        for index, scene in enumerate(distinct_scenes(16)):
            writer.add(scene_row(f"row-{index:02d}", scene))
    return tmp_path / "raw"


def _score(raw: Path, standins: Path, config: CurateConfig, work: str) -> pd.DataFrame:  # noqa: F811
    table = Sidecar.load(raw).table
    table = table.assign(role=roles(table))
    return score_rows(table, raw, model_paths(standins, config), config, raw.parent / work, executor(config))[0]


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_local_cluster_gives_the_scores_of_this_machines_processes(kind: str, raw: Path, standins: Path) -> None:  # noqa: F811
    config = lenient_config()
    expected = _score(raw, standins, config, "here")
    lost = (raw / "shard-0003.tar").read_bytes()
    (raw / "shard-0003.tar").unlink()
    with pytest.raises(QI2Error, match="1 of 4 shards could not be scored .shard-0003.tar: FileNotFoundError"):
        _score(raw, standins, replace(config, executor=kind, workers=2), kind)
    (raw / "shard-0003.tar").write_bytes(lost)
    pd.testing.assert_frame_equal(_score(raw, standins, config, kind), expected)  # this process scores the one shard that is left


def test_an_unknown_executor_is_refused_by_name() -> None:
    with pytest.raises(QI2Error, match="curate.executor='spark' is none of processes, dask, ray"):
        executor(CurateConfig(executor="spark"))
