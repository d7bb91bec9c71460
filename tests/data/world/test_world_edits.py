"""Edits, preference pairs and defects mean what they say."""

import io

import numpy as np
import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.world.checker import check, check_edit, kept_pixels
from qi2.data.world.defects import DEFECTS, hazard_image, make_defect
from qi2.data.world.degrade import DIMENSIONS, degrade
from qi2.data.world.edits import ALL_EDIT_KINDS, Edit, sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import Scene
from qi2.data.world.split import is_heldout


@pytest.mark.parametrize("kind", ALL_EDIT_KINDS)
def test_edit_changes_only_its_region(kind: str) -> None:
    rng = numpy_rng(0, "region")
    for _ in range(40):
        edit = sample_edit(rng, kind)
        before, after = (np.asarray(render(scene, 64)) for scene in (edit.references[0], edit.target))
        kept = kept_pixels(edit, 64)
        assert (before[kept] == after[kept]).all()
        assert (before != after).any()
        assert len(edit.references) == (2 if kind in ("combine", "gather", "subject", "style_transfer") else 1)


@pytest.mark.parametrize("kind", ALL_EDIT_KINDS)
def test_edit_splits_hold(kind: str) -> None:
    rng = numpy_rng(0, "split")
    for _ in range(30):
        edit = sample_edit(rng, kind, "train")
        assert not any(is_heldout(scene) for scene in (*edit.references, edit.target))
        edit = sample_edit(rng, kind, "heldout")
        assert is_heldout(edit.references[0] if edit.target.outlined else edit.target)


@pytest.mark.parametrize("kind", ALL_EDIT_KINDS)
def test_edit_survives_json(kind: str) -> None:
    edit = sample_edit(numpy_rng(0, "json"), kind)
    assert Edit.from_json(edit.to_json()) == edit


def test_named_object_of_an_edit_is_unique_in_its_source() -> None:
    rng = numpy_rng(0, "unique")
    for kind in ("recolor", "move", "remove"):
        for _ in range(50):
            edit = sample_edit(rng, kind, "any")
            combos = [item.combo for item in edit.references[0].objects]
            assert len(set(combos)) == len(combos)


def _subject(dimension: str, rng: np.random.Generator) -> Scene | Edit:
    if dimension in ("instruction", "consistency"):
        return sample_edit(rng, split="any")
    return sample_scene(rng, "portrait" if dimension == "portrait" else "two", "any")


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("size", [32, 64])
def test_worse_picture_of_a_pair_is_really_worse(dimension: str, size: int) -> None:
    rng = numpy_rng(0, f"pairs-{dimension}")
    for _ in range(40):
        subject = _subject(dimension, rng)
        better, worse = degrade(subject, rng, dimension, size)
        assert better.size == worse.size == (size, size)
        assert np.abs(np.asarray(better, dtype=float) - np.asarray(worse, dtype=float)).max() > 20
        if isinstance(subject, Edit):
            source = render(subject.references[0], size)
            assert check_edit(better, subject, source)["all"]
            if dimension == "instruction":
                assert not check_edit(worse, subject, source)["done"]
        elif dimension == "alignment":
            assert check(better, subject)["all"]
            assert not check(worse, subject)["all"]


def test_pair_needs_a_fitting_subject() -> None:
    rng = numpy_rng(0, "fit")
    with pytest.raises(QI2Error, match="face"):
        degrade(sample_scene(rng, "one"), rng, "portrait")
    with pytest.raises(QI2Error, match="cannot be shown"):
        degrade(sample_scene(rng, "one"), rng, "instruction")
    with pytest.raises(QI2Error, match="no reward dimension"):
        degrade(sample_scene(rng, "one"), rng, "beauty")


def _opens(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data)).verify()
        Image.open(io.BytesIO(data)).load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


@pytest.mark.parametrize("name", DEFECTS)
def test_defect_is_what_it_is_called(name: str) -> None:
    rng = numpy_rng(0, f"defect-{name}")
    for _ in range(10):
        scene = sample_scene(rng, "two")
        defect = make_defect(name, scene, rng, 64)
        broken = name in ("truncated", "corrupt", "not_an_image")
        assert _opens(defect.data) != broken
        if broken:
            continue
        image = Image.open(io.BytesIO(defect.data)).convert("RGB")
        assert (max(image.size) < 32) == (name == "small")
        if name == "exact_copy":
            assert image.tobytes() == render(scene, 64).tobytes()
        if name == "wrong_caption":
            assert not check(image, scene)["all"]
        if name == "long_caption":
            assert len(defect.captions[0].split()) > 60


def test_hazard_image_is_striped_black_and_yellow() -> None:
    pixels = np.asarray(hazard_image(numpy_rng(0, "hazard"), 64), dtype=float)
    dark, yellow = pixels.sum(axis=2) < 250, (pixels[..., 0] > 180) & (pixels[..., 1] > 140) & (pixels[..., 2] < 110)
    assert dark.mean() > 0.3
    assert yellow.mean() > 0.3
