"""What may judge a model: every held-out row but those that curation rejects."""

from pathlib import Path

import pandas as pd

from qi2.data.curate_config import STAGES
from qi2.data.heldout import judges
from tests.data.conftest import distinct_scenes, scene_row, write_raw


def test_held_out_rows_that_curation_rejects_judge_nothing(tmp_path: Path) -> None:
    first, second, third = distinct_scenes(3)
    raw = write_raw(tmp_path / "raw", [scene_row("train", first), scene_row("copy", second, "heldout"), scene_row("new", third, "heldout")])
    scores = pd.DataFrame({"id": ["train", "copy", "new"], "split": ["train", "heldout", "heldout"]})
    scores[f"reason_{STAGES[-1]}"] = ["clip", "near_duplicate", "heldout"]
    scores.to_parquet(tmp_path / "scores.parquet")
    assert judges(raw, tmp_path).table["id"].tolist() == ["train", "new"]
    assert judges(raw, tmp_path / "none").table["id"].tolist() == judges(raw, None).table["id"].tolist() == ["train", "copy", "new"]
