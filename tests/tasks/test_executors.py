"""Shards are scored by Dask and Ray clusters, started on this machine, as by its own processes."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from qi2.core.errors import QI2Error
from qi2.data.curate_config import CurateConfig
from tasks import settings
from tasks.executors import executor
from tests.data.conftest import distinct_scenes, lenient_config, scene_row, standins, write_raw
from tests.tasks.cluster import score

__all__ = ["standins"]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Four shards of four rows."""
    return write_raw(tmp_path / "raw", [scene_row(f"row-{index:02d}", scene) for index, scene in enumerate(distinct_scenes(16))], shard_rows=4)


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_local_cluster_gives_the_scores_of_this_machines_processes(kind: str, raw: Path, standins: Path, tmp_path: Path) -> None:  # noqa: F811
    expected = score(raw, standins, lenient_config(), tmp_path / "here")
    lost = (raw / "shard-0003.tar").read_bytes()
    (raw / "shard-0003.tar").unlink()
    patience = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"}  # every worker starts its own, beside other tests
    environment = {**os.environ, **patience, "PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": f"{settings.ROOT / 'src'}:{settings.ROOT}"}
    command = [sys.executable, "-m", "tests.tasks.cluster", kind, str(raw), str(standins), str(tmp_path / kind)]
    done = subprocess.run(command, cwd=settings.ROOT, env=environment, capture_output=True, text=True)
    assert "QI2Error: 1 of 4 shards could not be scored (shard-0003.tar: FileNotFoundError" in done.stderr, done.stderr[-2000:]
    (raw / "shard-0003.tar").write_bytes(lost)
    assert len(list((tmp_path / kind).glob("*.tar.json"))) == 3
    pd.testing.assert_frame_equal(score(raw, standins, lenient_config(), tmp_path / kind), expected)  # this process scores the one shard that is left


def test_an_unknown_executor_is_refused_by_name() -> None:
    with pytest.raises(QI2Error, match="curate.executor='spark' is none of processes, dask, ray"):
        executor(CurateConfig(executor="spark"))
