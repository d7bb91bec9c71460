"""Scores a raw folder with an executor, in a process of its own: clusters leave threads and signal handlers behind."""

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

from qi2.core.errors import QI2Error
from qi2.data.curate import model_paths
from qi2.data.curate_config import CurateConfig
from qi2.data.shard_scores import score_rows
from qi2.data.shards import Sidecar
from qi2.data.stages import roles
from tasks.executors import executor
from tests.data.conftest import lenient_config


def score(raw: Path, standins: Path, config: CurateConfig, work: Path) -> pd.DataFrame:
    """The scores of all rows."""
    table = Sidecar.load(raw).table
    table = table.assign(role=roles(table))
    return score_rows(table, raw, model_paths(standins, config), config, work, executor(config))[0]


if __name__ == "__main__":
    kind, *folders = sys.argv[1:]
    raw, standins, work = map(Path, folders)
    try:
        score(raw, standins, replace(lenient_config(), executor=kind, workers=2), work)
    except QI2Error as error:
        sys.exit(f"QI2Error: {error}")
