"""What the stand-in vision-language model is trained on where the images are a user's."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.shards import Row, ShardWriter, Sidecar
from qi2.standins.config import VLMConfig
from qi2.standins.train import build_corpus
from qi2.training.encode import samples

CONFIG = VLMConfig(kinds=["one", "text"], sizes=[32, 64])


def _jpeg(side: int, seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def _raw(folder: Path, rows: list[Row]) -> Sidecar:
    with ShardWriter(folder) as writer:
        for row in rows:
            writer.add(row)
    return Sidecar.load(folder)


def test_a_users_large_and_truncated_photographs_can_be_trained_on(tmp_path: Path) -> None:
    whole = [Row(f"u{i}", _jpeg(side, i), "jpg", (f"picture {i}",), "user") for i, side in enumerate((96, 700, 1500))]
    cut = [Row(f"cut{i}", _jpeg(700, i)[:-3000], "jpg", ("half a picture",), "user") for i in range(3)]
    left_out = [Row("bare", _jpeg(96, 9), "jpg", (), "user"), Row("unwilling", _jpeg(96, 8), "jpg", ("not mine to use",), "user", opt_out=True)]
    corpus = build_corpus(_raw(tmp_path, [*whole, *cut, *left_out]), CONFIG)
    drawn = [example for step in range(20) for example in corpus.draw(np.random.default_rng(step), corpus.turn(step, 20), 4)]
    assert {example.caption for example in drawn} == {"picture 0", "picture 1", "picture 2"}
    assert {example.images[0].size for example in drawn} == {(32, 32), (64, 64)}


def test_images_that_none_can_be_read_of_are_an_error(tmp_path: Path) -> None:
    corpus = build_corpus(_raw(tmp_path, [Row("u0", _jpeg(700, 0)[:-3000], "jpg", ("half a picture",), "user")]), CONFIG)
    with pytest.raises(QI2Error, match="u0 in .*shard-0000.tar cannot be decoded"):
        corpus.draw(np.random.default_rng(0), "image", 1)


def test_rows_without_captions_are_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="none of 1 rows is a training image with a caption"):
        build_corpus(_raw(tmp_path, [Row("u0", _jpeg(96, 0), "jpg", (), "user")]), CONFIG)


def test_a_users_rows_are_samples_whatever_kinds_of_scenes_are_chosen(tmp_path: Path) -> None:
    rows = [Row("mine", b"", "jpg", ("a",), "user"), Row("w1", b"", "png", ("b",), kind="one"), Row("w2", b"", "png", ("c",), kind="two")]
    table = _raw(tmp_path / "raw", rows).table
    tables = dict.fromkeys(range(1, 7), table)
    assert [(row["id"], row["stages"]) for row in samples(tables, ["one"])] == [("mine", [1, 2, 3, 4, 5, 6]), ("w1", [1, 2, 3, 4, 5, 6])]
