"""Written captions reach the training data, and only where they belong."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.data.captions.captioner import TruthCaptioner
from qi2.data.captions.config import CaptionConfig
from qi2.data.captions.run import caption
from qi2.data.curate import curate
from qi2.data.curate_config import CurateConfig
from qi2.data.recaption import recaption
from tests.data.conftest import Recipe, distinct_scenes, scene_row, write_raw
from tests.data.test_curate import _edit_rows


def _rows() -> pd.DataFrame:
    lines = [("a", "t2i", ["old"]), ("b", "t2i", ["old"]), ("e", "ti2i", ["make it red"])]
    return pd.DataFrame([{"id": name, "task": task, "captions": texts, "caption_kind": "general"} for name, task, texts in lines])


def _captions(path: Path) -> Path:
    lines = [("a", "text", "a text", "ok"), ("a", "general", "a general", "ok"), ("b", "general", "", "refused"), ("e", "general", "an edit", "ok")]
    pd.DataFrame(lines, columns=["id", "scheme", "caption", "status"]).to_parquet(path)
    return path


def test_new_captions_replace_or_join_the_own_ones_of_images_alone(tmp_path: Path) -> None:
    config = CurateConfig(captions=[str(_captions(tmp_path / "captions.parquet"))])
    assert recaption(_rows(), config)["captions"].tolist() == [["a general", "a text"], ["old"], ["make it red"]]
    added = recaption(_rows(), replace(config, caption_mode="add", caption_schemes=["text"]))
    assert added["captions"].tolist() == [["old", "a text"], ["old"], ["make it red"]]
    only = recaption(_rows(), replace(config, caption_schemes=["text"]))
    assert only["caption_kind"].tolist() == ["text", "general", "general"]


def test_captions_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = str(_captions(tmp_path / "captions.parquet"))
    with pytest.raises(QI2Error, match="no caption of the schemes knowledge"):
        recaption(_rows(), CurateConfig(captions=[path], caption_schemes=["knowledge"]))
    with pytest.raises(QI2Error, match="nothing.parquet is not a captions.parquet"):
        recaption(_rows(), CurateConfig(captions=[str(tmp_path / "nothing.parquet")]))
    with pytest.raises(QI2Error, match="caption_mode='mix' is none of replace, add"):
        recaption(_rows(), CurateConfig(caption_mode="mix"))


def test_written_captions_stand_in_the_manifests(standins: Path, lenient: CurateConfig, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", [scene_row(f"w{k}", scene) for k, scene in enumerate(distinct_scenes(12))] + _edit_rows(3))
    caption(raw, TruthCaptioner(), CaptionConfig(schemes=["general"], lengths=["short"]), tmp_path / "captions")
    lenient.captions = [str(tmp_path / "captions" / "captions.parquet")]
    curate(Recipe(curate=lenient), raw, standins, tmp_path / "curated", NullReporter())
    kept = pd.read_parquet(tmp_path / "curated" / "stage2.parquet")
    written = pd.read_parquet(lenient.captions[0]).set_index("id")["caption"]
    images, edits = kept[kept["task"] == "t2i"], kept[kept["task"] == "ti2i"]
    assert len(images) and all(list(texts) == [written[name]] for name, texts in zip(images["id"], images["captions"], strict=True))
    assert len(edits) and not edits["captions"].map(lambda texts: texts[0]).isin(written).any()
