"""Editing pairs made from photographs: exact, deterministic, and honest about where they change."""

import io
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.publish import verify
from qi2.core.reporter import NullReporter
from qi2.core.rng import numpy_rng
from qi2.data.config import DataConfig
from qi2.data.edits.base import FAMILIES, PhotoEdit
from qi2.data.edits.config import PhotoEditsConfig
from qi2.data.edits.mask import decode_mask, encode_mask
from qi2.data.edits.registry import OPERATIONS, make_edit
from qi2.data.edits.rows import Photograph, photo_edit_rows, shrunk
from qi2.data.ingest import ingest
from qi2.data.photos import PHOTOS, load
from qi2.data.shards import Row, Sidecar

SIDE = 200
EXACT_ORIGINAL = ("text_remove", "take_out", "inpaint", "descratch", "deblur", "colourise", "outpaint", "from_edges")


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [shrunk(load(photo), SIDE) for photo in PHOTOS if photo.file in ("coffee.png", "chelsea.png")]


def _edit(images: list[Image.Image], kind: str, draw: int = 0) -> PhotoEdit:
    edit = make_edit(images[0], images[1], "a cat", numpy_rng(0, f"tests/{kind}", draw), kind)
    assert edit is not None
    return edit


def _image(row: Row) -> Image.Image:
    return Image.open(io.BytesIO(row.data)).convert("RGB")


@pytest.mark.parametrize("kind", OPERATIONS)
def test_nothing_changes_outside_the_mask_and_something_inside(images: list[Image.Image], kind: str) -> None:
    edit = _edit(images, kind)
    assert edit.mask.size == edit.target.size and edit.mask.mode == "L"
    inside = np.asarray(edit.mask) > 0
    assert inside.any() and len(set(edit.instructions)) >= 3
    assert not any("{" in text for text in edit.instructions)
    if edit.references[0].size == edit.target.size:
        change = np.abs(np.asarray(edit.references[0], int) - np.asarray(edit.target, int)).max(-1)
        assert not change[~inside].any()
        assert change[inside].any()
    else:
        assert inside.all()


def test_every_family_of_the_report_has_an_operation() -> None:
    assert {operation.family for operation in OPERATIONS.values()} == set(FAMILIES)


@pytest.mark.parametrize("kind", EXACT_ORIGINAL)
def test_the_target_of_an_undone_change_is_the_original_photograph(images: list[Image.Image], kind: str) -> None:
    assert _edit(images, kind).target.tobytes() == images[0].tobytes()


def test_instructions_about_tone_are_true(images: list[Image.Image]) -> None:
    seen = set()
    for draw in range(40):
        edit = _edit(images, "tone", draw)
        before, after = (np.asarray(image, float) for image in (edit.references[0], edit.target))
        warmth = (after[..., 0] - after[..., 2]).mean() - (before[..., 0] - before[..., 2]).mean()
        truths = {"brighter": after.mean() > before.mean(), "darker": after.mean() < before.mean(), "warmer": warmth > 0, "cooler": warmth < 0}
        truths |= {"richer in contrast": after.std() > before.std(), "flatter in contrast": after.std() < before.std()}
        named = [name for name in truths if edit.instructions[0] == f"make it {name}"]
        seen.update(named)
        assert all(truths[name] for name in named)
    assert len(seen) == 6


def test_what_cannot_apply_is_refused_without_an_edit(images: list[Image.Image]) -> None:
    rng = numpy_rng(0, "tests/none")
    greyed = images[0].convert("L").convert("RGB")
    assert make_edit(greyed, None, "", rng, "recolour") is None
    assert make_edit(greyed, None, "", rng, "monochrome") is None
    assert make_edit(images[0], None, "", rng, "insert") is None
    assert make_edit(images[0], None, "", rng, "from_edges") is None
    assert make_edit(images[0].resize((40, 40)), None, "", rng, "sepia") is None
    with pytest.raises(QI2Error, match="kinds are"):
        make_edit(images[0], None, "", rng, "sepiaa")


def _photographs() -> list[Photograph]:
    return [Photograph(photo.file, partial(load, photo), photo.captions[0], photo.licence, split=photo.split) for photo in PHOTOS[:7]]


def test_rows_are_the_same_whatever_part_is_made_and_never_mix_splits() -> None:
    photos = _photographs()
    rows = list(photo_edit_rows(photos, 12, seed=3, side=96))
    parts = [*photo_edit_rows(photos, 5, seed=3, side=96), *photo_edit_rows(photos, 7, seed=3, side=96, first=5)]
    assert rows == parts
    splits = {photo.id: photo.split for photo in photos}
    assert all({splits[name] for name in row.origin.split(" ")} == {row.split} for row in rows)


def test_rows_stand_after_their_references_with_mask_and_licence() -> None:
    photos = _photographs()
    photos[0] = Photograph("own", photos[0].load, "a cat", "CC-BY-4.0")
    rows = list(photo_edit_rows(photos[:2], 8, seed=0, mix={"insert": 1.0, "text_add": 1.0}, side=96, square=True))
    known: set[str] = set()
    for row in rows:
        assert known.issuperset(row.references)
        known.add(row.id)
        assert _image(row).width == _image(row).height <= 96 or row.id.endswith("ref1")
    targets = [row for row in rows if row.task == "ti2i"]
    assert len(targets) == 8 and {row.kind for row in targets} == {"insert", "text_add"}
    for row in targets:
        assert row.captions and row.caption_kind == "instruction" and row.source == "photo_edit"
        assert 0 < np.asarray(decode_mask(row.region, _image(row).size)).mean() < 130
        assert row.licence == "CC-BY-4.0 AND CC0-1.0" or row.kind == "text_add"


def test_unknown_kinds_of_a_mix_are_named() -> None:
    with pytest.raises(QI2Error, match="sepiaa"):
        list(photo_edit_rows(_photographs()[:1], 1, 0, {"sepiaa": 1.0}))


@pytest.mark.parametrize("size", [(64, 64), (200, 131), (37, 90)])
def test_a_mask_that_was_stored_covers_every_marked_pixel_and_little_more(size: tuple[int, int]) -> None:
    mask = Image.new("L", size, 0)
    mask.paste(255, (5, 11, 20, 31))
    stored = encode_mask(mask)
    again = np.asarray(decode_mask(stored, size)) > 0
    assert again[np.asarray(mask) > 0].all()
    assert not again[45:].any() and not again[:, 28:].any()
    assert len(stored) < 200


def test_older_regions_are_understood_and_others_refused() -> None:
    cells = np.asarray(decode_mask("[[0, 1], [2, 2]]", (30, 30), (3, 3))) > 0
    assert cells.sum() == 200 and cells[0, 10] and cells[29, 29] and not cells[0, 0]
    assert np.asarray(decode_mask('"background"', (9, 7))).all()
    assert np.asarray(decode_mask(None, (9, 7))).all()
    with pytest.raises(QI2Error, match="no mask"):
        decode_mask("[[5, 5]]", (9, 9))


def test_a_photograph_that_cannot_be_decoded_costs_only_its_own_edits() -> None:
    def broken() -> Image.Image:
        raise QI2Error("image x cannot be decoded")

    rows = list(photo_edit_rows([Photograph("x", broken), Photograph("y", partial(load, PHOTOS[0]))], 8, 0, {"sepia": 1.0}, side=96))
    assert len([row for row in rows if row.task == "ti2i"]) == 4


def test_edits_have_the_same_bytes_with_any_number_of_processes(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("qi2.data.ingest.FEW_PAIRS", 0)
    monkeypatch.setattr("qi2.data.ingest.PAIRS", 3)
    for workers in (0, 2):
        data = DataConfig(world_images=2, rich_images=0, edit_pairs=0, photo_crops=6, photo_sizes=[96], heldout_images=0, heldout_edits=0, heldout_crops=2)
        data.photo_edits, data.shard_rows, data.workers = PhotoEditsConfig(count=11, side=96), 5, workers
        ingest(SimpleNamespace(seed=0, data=data), tmp_path / str(workers), NullReporter())
    assert verify(tmp_path / "0") == verify(tmp_path / "2")
    assert (Sidecar.load(tmp_path / "0").table["source"] == "photo_edit").sum() >= 20


def test_ingest_makes_edits_of_the_photographs_that_it_wrote(tmp_path) -> None:  # type: ignore[no-untyped-def]
    data = DataConfig(world_images=4, rich_images=0, edit_pairs=0, photo_crops=6, photo_sizes=[96], heldout_images=0, heldout_edits=0, heldout_crops=2)
    data.photo_edits = PhotoEditsConfig(count=8, side=96)
    ingest(SimpleNamespace(seed=0, data=data), tmp_path / "raw", NullReporter())
    made = Sidecar.load(tmp_path / "raw").table.query("source == 'photo_edit' and task == 'ti2i'")
    assert len(made) >= 6 and set(made["split"]) == {"train", "heldout"}
    assert made["captions"].map(len).ge(2).all() and made["region"].notna().all()
