"""Editing pairs: good ones of every kind pass, planted bad ones are named for what is wrong with them."""

import io
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from qi2.data.config import DataConfig
from qi2.data.curate_config import StageThresholds
from qi2.data.edits.mask import given_region
from qi2.data.edits.rows import Photograph, photo_edit_rows
from qi2.data.filters import pair
from qi2.data.filters.alignment import thumbnail
from qi2.data.photos import PHOTOS, load
from qi2.data.shards import Row, plain_nulls
from qi2.data.world.defects import encode_png
from qi2.data.world.examples import make_rows, plan
from tests.data.conftest import Held

LIMITS = StageThresholds(min_pair_change=0.01, max_pair_outside=0.06, min_pair_similarity=0.25)
ROLES = {"ti2i": "pair", "reference": "reference", "t2i": "image"}


def _world() -> list[Row]:
    none = dict.fromkeys(("world_images", "rich_images", "heldout_images", "heldout_edits", "defect_share"), 0)
    config = DataConfig(edit_pairs=150, image_size=64, **none)
    return [row for item in plan(config, 1) for row in make_rows(item, 1, 1)]


def _photos() -> list[Row]:
    photos = [Photograph(photo.file, partial(load, photo), photo.captions[0], photo.licence) for photo in PHOTOS if photo.file in ("coffee.png", "chelsea.png")]
    return list(photo_edit_rows(photos, 80, 0, side=128))


def _table(rows: list[Row]) -> pd.DataFrame:
    images = [Image.open(io.BytesIO(row.data)).convert("RGB") for row in rows]
    known = [
        {"id": row.id, "role": ROLES[row.task], "kind": row.kind, "references": list(row.references), "region": row.region, "scene": row.scene}
        | {"aspect": image.width / image.height, "thumbnail": thumbnail(image)}
        for row, image in zip(rows, images, strict=True)
    ]
    return plain_nulls(pd.DataFrame(known))


@pytest.fixture(scope="module")
def world() -> pd.DataFrame:
    return _table(_world())


@pytest.fixture(scope="module")
def photos() -> pd.DataFrame:
    return _table(_photos())


def _refused(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Per reason, which pairs of the table it refuses."""
    scored = table.join(pair.columns(table, Held(table["thumbnail"])))
    edits = scored[scored["role"] == "pair"]
    assert scored[scored["role"] != "pair"][list(pair.COLUMNS)].isna().all(axis=None)
    return {item.name: item.rejects(edits, LIMITS) for item in pair.FILTERS}


def _with_targets(table: pd.DataFrame, thumbnails: list[bytes]) -> pd.DataFrame:
    changed = table.copy()
    changed.loc[changed["role"] == "pair", "thumbnail"] = pd.Series(thumbnails, changed.index[changed["role"] == "pair"], dtype=object)
    return changed


@pytest.mark.parametrize("name", ["world", "photos"])
def test_no_exact_edit_is_refused(name: str, request: pytest.FixtureRequest) -> None:
    refused = _refused(request.getfixturevalue(name))
    assert len(refused["pair_spill"]) >= 75
    assert not any(rows.any() for rows in refused.values())


def test_edits_that_did_nothing_are_refused(world: pd.DataFrame) -> None:
    thumbnails = dict(zip(world["id"], world["thumbnail"], strict=True))
    firsts = [thumbnails[names[0]] for names in world.loc[world["role"] == "pair", "references"]]
    assert _refused(_with_targets(world, firsts))["pair_unchanged"].all()


def test_targets_of_other_pairs_are_refused(world: pd.DataFrame) -> None:
    others = world.loc[world["role"] == "pair", "thumbnail"].tolist()
    refused = _refused(_with_targets(world, others[5:] + others[:5]))
    assert np.any(list(refused.values()), axis=0).mean() > 0.9


def test_changes_where_nothing_may_change_are_refused(world: pd.DataFrame) -> None:
    """An edit of one or two of four cells gets a grey patch in the middle of each of the others."""
    spilt = _with_targets(world, [_patched(*row) for row in world.loc[world["role"] == "pair", ["thumbnail", "region", "scene"]].itertuples(index=False)])
    inner = (world.loc[world["role"] == "pair", "region"] != '"background"').to_numpy()
    assert inner.sum() > 100 and _refused(spilt)["pair_spill"][inner].mean() > 0.99


def _patched(data: bytes, region: str, scene: str) -> bytes:
    values = np.frombuffer(data, np.uint8).reshape(32, 32, 3).copy()
    fixed = ~pair._grown(pair._mask(region, scene)[None])[0]
    rows, columns = np.nonzero(fixed)
    if len(rows):
        middle = len(rows) // 2
        patch = values[rows[middle] : rows[middle] + 4, columns[middle] : columns[middle] + 4]
        patch[fixed[rows[middle] : rows[middle] + 4, columns[middle] : columns[middle] + 4]] ^= 128
    return values.tobytes()


def test_a_users_mask_bounds_the_change_and_one_that_cannot_be_used_costs_its_pair() -> None:
    """Of three pairs alike, one has no mask, one a mask that the change leaves, one a mask of another size."""
    before = load(PHOTOS[0]).crop((100, 50, 356, 306))
    after, mask = before.copy(), Image.new("L", before.size, 0)
    after.paste((0, 200, 0), (20, 20, 236, 100))
    mask.paste(255, (0, 0, 110, 110))
    regions = [None, *(given_region(encode_png(image), encode_png(after)) for image in (mask, mask.resize((64, 64)), mask.point(lambda _: 255)))]
    rows = [Row("before", encode_png(before), "png", (), task="reference")]
    rows += [Row(f"e{k}", encode_png(after), "png", ("a",), task="ti2i", references=("before",), region=region) for k, region in enumerate(regions)]
    refused = _refused(_table(rows))
    assert refused["pair_spill"].tolist() == [False, True, False, False]
    assert refused["pair_mask"].tolist() == [False, False, True, False]
    assert not refused["pair_unchanged"].any()


def test_unknown_kinds_without_a_mask_are_judged_mildly(photos: pd.DataFrame) -> None:
    """Whatever photographs' edits share counts, and nothing is said about where they change."""
    unknown = photos.assign(kind=None, region=None)
    refused = _refused(unknown)
    assert not refused["pair_spill"].any() and not refused["pair_unchanged"].any()
    assert refused["pair_unrelated"].mean() < 0.1


def test_pairs_whose_reference_was_not_decoded_get_no_scores(world: pd.DataFrame) -> None:
    broken = world.copy()
    broken.loc[broken["role"] == "reference", "thumbnail"] = None
    assert pair.columns(broken, Held(broken["thumbnail"])).isna().all(axis=None)
    references = world[world["role"] == "reference"]
    assert pair.columns(references, Held(references["thumbnail"])).isna().all(axis=None)
