"""Folders of the stages before the reward models."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def encoder(small_world: Any) -> Any:
    from qi2.models.condition import ConditionEncoder

    return ConditionEncoder.load(small_world.vlm)


@pytest.fixture
def stages(small_world: Any, tmp_path: Path) -> Path:
    """standins/vlm, and curated with a manifest that holds nothing of a user's."""
    import pandas as pd

    (tmp_path / "standins").mkdir()
    (tmp_path / "standins" / "vlm").symlink_to(small_world.vlm)
    (tmp_path / "curated").mkdir()
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "source", "task", "captions", "references")}
    pd.DataFrame(columns).to_parquet(tmp_path / "curated" / "stage6.parquet")
    return tmp_path
