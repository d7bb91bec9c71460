"""Editing pairs from photographs: true to their mask, the same for the same seed, and bad pairs are told from good ones."""

import io
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.core.rng import numpy_rng
from qi2.data.config import DataConfig
from qi2.data.curate_config import CurateConfig, thresholds
from qi2.data.edits.base import FAMILIES
from qi2.data.edits.config import PhotoEditsConfig
from qi2.data.edits.mask import decode_mask, encode_mask
from qi2.data.edits.registry import OPERATIONS, make_edit
from qi2.data.edits.rows import Photograph, photo_edit_rows, shrunk
from qi2.data.edits.sheet import bundled
from qi2.data.filters import pair
from qi2.data.filters.alignment import thumbnail
from qi2.data.filters.base import Picture
from qi2.data.ingest import ingest
from qi2.data.shards import Row, Sidecar
from qi2.data.stages import roles
from qi2.data.world.edits import EDIT_KINDS
from qi2.data.world.examples import make_rows, plan

PHOTOS = bundled()


def _picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


@pytest.mark.parametrize("kind", list(OPERATIONS))
def test_nothing_changes_outside_the_mask(kind: str) -> None:
    made = 0
    for index, photo in enumerate(PHOTOS):
        other = shrunk(PHOTOS[index - 1].load(), 200)
        edit = make_edit(shrunk(photo.load(), 200), other, photo.caption, numpy_rng(0, f"tests/{kind}", index), kind)
        if edit is None:
            continue
        made += 1
        assert edit.instructions and not any("{" in text for text in edit.instructions)
        assert edit.mask.size == edit.target.size
        if edit.references[0].size == edit.target.size:
            changed = np.abs(np.asarray(edit.target, int) - np.asarray(edit.references[0], int)).max(-1) > 0
            stored = np.asarray(decode_mask(encode_mask(edit.mask), edit.mask.size)) > 0
            assert not (changed & ~stored).any()
    assert made


def test_every_family_of_the_report_has_an_operation() -> None:
    assert {operation.family for operation in OPERATIONS.values()} == set(FAMILIES)


def test_rows_depend_on_seed_and_number_alone_and_keep_splits_and_licences() -> None:
    photos = [*PHOTOS[:2], *bundled("heldout")[:2]]
    rows = list(photo_edit_rows(photos, 12, 0, side=96))
    assert rows == list(photo_edit_rows(photos, 12, 0, side=96))
    assert rows[-3:] == list(photo_edit_rows(photos, 12 - 6, 0, side=96, first=6))[-3:]
    pairs = [row for row in rows if row.task == "ti2i"]
    by_name = {photo.origin: photo for photo in photos}
    for row in pairs:
        used = [by_name[name] for name in row.origin.split()] if row.origin else []
        assert {photo.split for photo in used} <= {row.split}
        assert max(_picture(row.data).size) <= 96
        assert set(row.references) <= {other.id for other in rows if other.task == "reference"}


def test_a_photograph_that_cannot_be_decoded_costs_only_its_own_edits() -> None:
    def broken() -> Image.Image:
        raise QI2Error("image x cannot be decoded")

    rows = list(photo_edit_rows([Photograph("x", broken), PHOTOS[0]], 8, 0, {"sepia": 1.0}, side=96))
    assert len([row for row in rows if row.task == "ti2i"]) == 4


def test_unknown_kinds_are_refused_by_name() -> None:
    with pytest.raises(QI2Error, match=r"unknown kinds \['sepja'\]"):
        list(photo_edit_rows(PHOTOS, 1, 0, {"sepja": 1.0}))


def test_ingest_makes_edits_of_the_photographs_that_it_wrote(tmp_path) -> None:  # type: ignore[no-untyped-def]
    data = DataConfig(world_images=4, rich_images=0, edit_pairs=0, photo_crops=6, photo_sizes=[96], heldout_images=0, heldout_edits=0, heldout_crops=2)
    data.photo_edits = PhotoEditsConfig(count=8, side=96)
    ingest(SimpleNamespace(seed=0, data=data), tmp_path / "raw", NullReporter())
    made = Sidecar.load(tmp_path / "raw").table.query("source == 'photo_edit' and task == 'ti2i'")
    assert len(made) >= 6 and set(made["split"]) == {"train", "heldout"}
    assert made["captions"].map(len).ge(2).all() and made["region"].notna().all()


@pytest.fixture(scope="module")
def good() -> pd.DataFrame:
    """Edits of the world and of photographs with their thumbnails."""
    data = DataConfig(image_size=64, world_images=0, rich_images=0, edit_pairs=140, heldout_images=0, heldout_edits=0)
    rows = [row for item in plan(data, 0) for row in make_rows(item, 0, 1)]
    return _table([*rows, *photo_edit_rows(PHOTOS, 150, 1, side=128)])


def _table(rows: list[Row]) -> pd.DataFrame:
    pictures = [_picture(row.data) for row in rows]
    names = ("id", "task", "kind", "region", "scene", "references")
    table = pd.DataFrame([{name: getattr(row, name) for name in names} for row in rows])
    table["aspect"] = [picture.width / picture.height for picture in pictures]
    table["thumbnail"] = [thumbnail(Picture(picture, "PNG", 1, {}).small) for picture in pictures]
    return table.assign(role=roles(table))


def _rejected(table: pd.DataFrame) -> pd.DataFrame:
    """By each of the three checks at stage 2's thresholds; pairs only."""
    table = table.assign(**pair.pair_columns(table))
    limits = thresholds(CurateConfig())["stage2"]
    found = pd.DataFrame({item.name: item.rejects(table, limits) for item in (pair.UNCHANGED, pair.SPILL, pair.UNRELATED)})
    return found.assign(kind=table["kind"], change=table["pair_change"], outside=table["pair_outside"])[table["role"] == "pair"]


def _spoilt(table: pd.DataFrame, spoil: Callable[[pd.Series], bytes]) -> pd.DataFrame:
    return table.assign(thumbnail=[spoil(row) if row["role"] == "pair" else row["thumbnail"] for _, row in table.iterrows()])


def test_good_pairs_pass(good: pd.DataFrame) -> None:
    found = _rejected(good)
    assert not found[found["kind"].isin(EDIT_KINDS)][["pair_unchanged", "pair_spill", "pair_unrelated"]].any().any()
    assert found[["pair_unchanged", "pair_spill", "pair_unrelated"]].any(axis=1).mean() < 0.02


def test_pairs_in_which_nothing_was_done_are_found(good: pd.DataFrame) -> None:
    first = dict(zip(good["id"], good["thumbnail"], strict=True))
    found = _rejected(_spoilt(good, lambda row: first[row["references"][0]]))
    judged = found[found["change"].notna() & ~found["kind"].isin(["turn", "closer", "farther", "zoom"])]
    assert len(judged) > 150 and judged["pair_unchanged"].mean() > 0.97


def test_a_disturbance_where_nothing_may_change_is_found(good: pd.DataFrame) -> None:
    def stained(row: pd.Series) -> bytes:
        picture = np.frombuffer(row["thumbnail"], np.uint8).reshape(32, 32, 3).copy()
        may = np.asarray(decode_mask(row["region"], (32, 32))) > 0
        picture[~may] = 255 - picture[~may]
        return picture.tobytes()

    found = _rejected(_spoilt(good, stained))
    judged = found[found["outside"].notna()]
    assert len(judged) > 80 and judged["pair_spill"].mean() > 0.97


def test_a_target_of_quite_another_picture_is_found() -> None:
    one, other = (_picture_of(colours) for colours in (((250, 30, 30), (30, 250, 30)), ((20, 20, 120), (200, 200, 20))))
    rows = [Row("a-ref0", one, "png", (), task="reference"), Row("a", other, "png", ("make it nice",), "user", task="ti2i", references=("a-ref0",))]
    assert _rejected(_table(rows))["pair_unrelated"].tolist() == [True]


def _picture_of(colours: tuple[tuple[int, int, int], ...]) -> bytes:
    image = Image.new("RGB", (96, 96), colours[0])
    image.paste(colours[1], (0, 0, 48, 96) if colours[0][0] > 99 else (0, 0, 96, 48))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
