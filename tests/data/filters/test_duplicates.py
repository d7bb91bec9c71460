"""Duplicates: found whatever the format, never between distinct scenes, and the best copy stays."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageChops

from qi2.core.errors import QI2Error
from qi2.data.curate_config import STAGES, CurateConfig
from qi2.data.filters import exact, near
from qi2.data.filters.alignment import thumbnail
from qi2.data.filters.broken import decode
from qi2.data.filters.registry import measure
from qi2.data.photos import PHOTOS, load
from qi2.data.world.defects import encode_jpeg, encode_png
from qi2.data.world.render import render
from tests.data.conftest import Held, blank_table, distinct_scenes

CONFIG = CurateConfig()
PLAIN = ("rocket.jpg", "clock_motion.png")  # parts of them show nothing, and the signs of nothing are noise


def _table(files: list[bytes], **columns: object) -> pd.DataFrame:
    measured = pd.DataFrame.from_records([measure(decode(data)) for data in files])
    table = blank_table(len(files), **columns)
    table[measured.columns] = measured
    table["exact_duplicate_of"] = None
    return table


def _near(table: pd.DataFrame, passes: np.ndarray, config: CurateConfig) -> np.ndarray:
    return near.duplicate_of(table, passes, config, Held(table["thumbnail"]))


def _as_bmp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "BMP")
    return buffer.getvalue()


def test_identical_pixels_are_exact_duplicates_in_any_format() -> None:
    a, b = (render(scene, 64) for scene in distinct_scenes(2))
    table = _table([encode_png(a), encode_png(b), _as_bmp(a)])
    assert exact.duplicate_of(table, np.ones(3, bool)).tolist() == [None, None, "r0"]


def test_the_copy_that_other_filters_accept_stays() -> None:
    image = render(distinct_scenes(1)[0], 64)
    table = _table([encode_png(image), encode_png(image)])
    assert exact.duplicate_of(table, np.array([False, True])).tolist() == ["r1", None]


def test_a_training_copy_of_a_heldout_picture_goes() -> None:
    image = render(distinct_scenes(1)[0], 64)
    table = _table([encode_png(image), encode_png(image)], split=["train", "heldout"])
    assert exact.duplicate_of(table, np.array([True, False])).tolist() == ["r1", None]


def test_pairs_compare_only_with_pairs_of_the_same_references() -> None:
    a, b, c = (render(scene, 64) for scene in distinct_scenes(3))
    files = [encode_png(image) for image in (a, b, a, c, c, c, c)]
    roles = ["reference", "reference", "reference", "pair", "pair", "pair", "image"]
    references = [[], [], [], ["r0"], ["r1"], ["r2"], []]
    table = _table(files, role=roles, references=pd.Series(references))
    found = exact.duplicate_of(table, np.ones(7, bool)).tolist()
    assert found == [None, None, None, None, None, "r3", None]  # r2 equals r0 but is an input, never a duplicate


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg": lambda image: Image.open(io.BytesIO(encode_jpeg(image, 85))).convert("RGB"),
    "shifted": lambda image: ImageChops.offset(image, 1, 0),
    "larger": lambda image: image.resize((90, 90), Image.Resampling.BICUBIC),
    "smaller": lambda image: image.resize((48, 48), Image.Resampling.BOX),
}


@pytest.mark.parametrize("way", COPIES)
def test_near_copies_are_found(way: str) -> None:
    originals = [render(scene, 64) for scene in distinct_scenes(40, ("one", "two", "count", "relation"))]
    copies = [COPIES[way](image) for image in originals]
    table = _table([encode_png(image) for image in (*originals, *copies)])
    found = _near(table, np.ones(80, bool), CONFIG)
    pairs = [(k, k + 40) for k in range(40)]
    settled = [found[b] == f"r{a}" or found[a] == f"r{b}" for a, b in pairs]
    assert np.mean(settled) >= 0.95
    assert sum(name is not None for name in found) == sum(settled)


def test_distinct_scenes_are_never_near_duplicates() -> None:
    scenes = distinct_scenes(700)
    thumbnails = pd.Series([thumbnail(render(scene, 64)) for scene in scenes])
    first, second = near.near_pairs(Held(thumbnails), np.arange(700), np.zeros(700), np.zeros(700, int), CONFIG)
    assert [(scenes[a], scenes[b]) for a, b in zip(first, second, strict=True)] == []


def test_a_recompressed_photograph_is_found_and_other_crops_are_not() -> None:
    photo = load(PHOTOS[0])
    crops = [photo.crop((x, y, x + 128, y + 128)) for x in (0, 150, 300) for y in (0, 150)]
    table = _table([*(encode_png(crop) for crop in crops), encode_jpeg(crops[0], 60)])
    assert _near(table, np.ones(7, bool), CONFIG).tolist() == [None] * 6 + ["r0"]


@pytest.mark.parametrize("way", ["jpeg", "larger", "smaller"])
def test_near_copies_of_photographs_are_found_by_their_hashes(way: str) -> None:
    crops = [load(photo).crop((x, 40, x + 128, 168)) for photo in PHOTOS if photo.file not in PLAIN for x in (40, 170)]
    table = _table([encode_png(image) for image in (*crops, *(COPIES[way](crop) for crop in crops))])
    found = _near(table, np.ones(len(table), bool), CurateConfig(near_search="hashes"))
    settled = [found[k + len(crops)] == f"r{k}" or found[k] == f"r{k + len(crops)}" for k in range(len(crops))]
    assert np.mean(settled) >= 0.9
    assert sum(name is not None for name in found) == sum(settled)


def _known(crops: list[Image.Image], folder: Path) -> CurateConfig:
    """Earlier data of which the second crop is held out, the third rejected, and the fourth trained on from stage 3."""
    known = _table([encode_png(crop) for crop in crops])
    known["id"], known["phash"] = [f"old{k}" for k in range(4)], near.hashes(Held(known["thumbnail"]))
    for name in STAGES:
        known[f"reason_{name}"] = [None, "heldout", "nsfw", "not_admitted" if name < "stage3" else None]
    known.drop(columns="thumbnail").to_parquet(folder / "scores.parquet")
    return CurateConfig(known=[str(folder / "scores.parquet")])


@pytest.mark.parametrize(("split", "copies"), [("train", ["old0", "old1", None, "old3", None]), ("heldout", ["old0", None, None, "old3", None])])
def test_copies_of_what_earlier_data_kept_are_rejected_and_held_out_ones_of_what_it_trained_on(split: str, copies: list[str | None], tmp_path: Path) -> None:
    crops = [load(photo).crop((0, 0, 128, 128)) for photo in PHOTOS[:4]]
    table = _table([*(encode_jpeg(crop, 60) for crop in crops), encode_png(load(PHOTOS[5]).crop((0, 0, 128, 128)))], split=split)
    table["phash"] = near.hashes(Held(table["thumbnail"]))
    assert _near(table, np.ones(5, bool), _known(crops, tmp_path)).tolist() == copies


def test_a_training_copy_of_a_held_out_picture_goes_even_where_that_one_is_rejected(tmp_path: Path) -> None:
    crops = [load(photo).crop((0, 0, 128, 128)) for photo in PHOTOS[:4]]
    table = _table([encode_png(crops[0]), encode_jpeg(crops[0], 60)], split=["heldout", "train"], phash=["00" * 32] * 2)
    table.loc[0, "phash"] = near.hashes(Held(table["thumbnail"]))[0]
    assert _near(table, np.ones(2, bool), _known(crops, tmp_path)).tolist() == ["old0", "r0"]


def test_a_table_of_earlier_data_that_is_none_is_named(tmp_path: Path) -> None:
    table = _table([encode_png(load(PHOTOS[0]).crop((0, 0, 64, 64)))])
    table["phash"] = near.hashes(Held(table["thumbnail"]))
    with pytest.raises(QI2Error, match="curate.known: .*missing.parquet is not a scores.parquet"):
        _near(table, np.ones(1, bool), CurateConfig(known=[str(tmp_path / "missing.parquet")]))


def test_every_rejected_copy_is_near_one_that_stays() -> None:
    image = render(distinct_scenes(1)[0], 64)
    chain = [ImageChops.offset(image, step, 0) for step in range(8)]  # neighbours are near, the ends are not
    table = _table([encode_png(step) for step in chain])
    found = _near(table, np.ones(8, bool), CONFIG)
    stays = {f"r{k}" for k, name in enumerate(found) if name is None}
    assert len(stays) > 1
    assert {name for name in found if name is not None} <= stays


def test_close_pairs_finds_all_and_only_pairs_within_the_radius(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "SLAB", 16)
    points = np.random.default_rng(0).random((200, 3)).astype(np.float32)
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).mean(-1))
    expected = {(a, b) for a, b in np.argwhere(distance <= 0.1).tolist() if a < b}
    assert set(zip(*(part.tolist() for part in near.close_pairs(points, 0.1)), strict=True)) == expected
