"""The edits of the report's other families: exact, reproducible, and only where they are asked for."""

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from qi2.core.rng import numpy_rng
from qi2.data.config import DataConfig
from qi2.data.world.checker import check, check_edit, read
from qi2.data.world.damage import hole_cell
from qi2.data.world.edits import ALL_EDIT_KINDS, EDIT_KINDS, FAMILIES, MORE_EDIT_KINDS, Edit, sample_edit
from qi2.data.world.examples import make_rows, plan
from qi2.data.world.mutate import wrong_scene
from qi2.data.world.palette import DAMAGES
from qi2.data.world.render import render
from qi2.data.world.scene import Object, Scene, Word

REPORT = {"attribute", "background", "style", "text", "restoration", "structure", "reference", "subject", "style_transfer", "composition"}


def _small(**mix: float) -> DataConfig:
    chosen = {"edit_mix": mix} if mix else {}
    return DataConfig(image_size=64, world_images=10, rich_images=0, edit_pairs=60, heldout_images=0, heldout_edits=40, **chosen)


def _kinds(data: DataConfig, split: str) -> set[str]:
    return {item.subject.kind for item in plan(data, 0) if isinstance(item.subject, Edit) and item.split == split}


def _restoration(damage: str) -> Edit:
    rng = numpy_rng(0, "restoration")
    while (edit := sample_edit(rng, "restore", "any")).references[0].damage != damage:
        continue
    return edit


def test_every_family_of_the_report_has_a_kind_and_every_kind_a_family() -> None:
    assert set(FAMILIES) == set(ALL_EDIT_KINDS)
    assert set(FAMILIES.values()) == REPORT


def test_only_named_kinds_are_drawn_and_those_are_held_out_too() -> None:
    assert _kinds(_small(), "train") | _kinds(_small(), "heldout") <= set(EDIT_KINDS)
    named = _small(subject=1.0, restore=1.0, style=0.0)
    assert _kinds(named, "train") == {"subject", "restore"}
    assert _kinds(named, "heldout") == {*EDIT_KINDS, "subject", "restore"}


def test_rows_show_what_their_scenes_say() -> None:
    for item in plan(_small(**dict.fromkeys(MORE_EDIT_KINDS, 1.0)), 0):
        for row in make_rows(item, 0, 1):
            if item.id.startswith("edit") and row.scene:
                assert Image.open(io.BytesIO(row.data)).tobytes() == render(Scene.from_json(row.scene), 64).tobytes()


@pytest.mark.parametrize("kind", MORE_EDIT_KINDS)
def test_wrong_result_is_noticed_and_a_mildly_blurred_one_passes(kind: str) -> None:
    rng = numpy_rng(0, "more-wrong")
    for _ in range(40):
        edit = sample_edit(rng, kind, "any")
        source, target = render(edit.references[0], 64), render(edit.target, 64)
        assert check_edit(target.filter(ImageFilter.GaussianBlur(0.7)), edit, source)["all"]
        assert not check_edit(render(wrong_scene(edit.target, rng)[1], 64), edit, source)["all"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_restoration_must_repair_what_could_already_be_read(damage: str) -> None:
    edit = _restoration(damage)
    clean, damaged = render(edit.target, 64), render(edit.references[0], 64)
    assert check_edit(clean, edit, damaged)["done"]
    assert not check_edit(damaged, edit, damaged)["done"]
    assert not check_edit(Image.blend(damaged, clean, 0.3), edit, damaged)["done"]


def test_hole_is_inside_the_one_cell_that_may_change() -> None:
    edit = _restoration("hole")
    row, col = hole_cell(edit.references[0])
    changed = (np.asarray(render(edit.target, 64)) != np.asarray(render(edit.references[0], 64))).any(axis=2)
    assert edit.region == ((row, col),)
    assert changed[32 * row : 32 * row + 32, 32 * col : 32 * col + 32].sum() == changed.sum() > 100


def test_noise_is_the_same_every_time_and_another_for_another_scene() -> None:
    scene = Scene("one", objects=(Object("circle", "red", 0, 0),), damage="noise")
    other = replace(scene, objects=(Object("circle", "red", 0, 1),))
    corner = (0, 50, 10, 60)  # nothing is drawn there
    assert render(scene, 64).tobytes() == render(scene, 64).tobytes()
    assert render(scene, 64).crop(corner).tobytes() != render(other, 64).crop(corner).tobytes()


def test_damage_is_stated_only_where_there_is_any() -> None:
    scene = Scene("one", objects=(Object("circle", "red", 0, 0),))
    assert "damage" not in scene.to_dict()
    assert Scene.from_json(replace(scene, damage="blur").to_json()).damage == "blur"


def test_outline_is_neither_a_filled_shape_nor_a_letter() -> None:
    drawing = Scene("one", objects=(Object("circle outline", "black", 0, 0),))
    assert check(render(drawing, 64), drawing)["all"]
    assert not check(render(replace(drawing, objects=(Object("circle", "black", 0, 0),)), 64), drawing)["object"]
    letter = Scene("text", words=(Word("OO", 0),))
    assert read(render(letter, 64), outlined=True).words() == ["OO"]


def test_object_of_both_images_is_the_only_one_in_both() -> None:
    rng = numpy_rng(0, "subject")
    for _ in range(40):
        edit = sample_edit(rng, "subject", "any")
        counts = Counter(item.combo for scene in edit.references for item in scene.objects)
        (subject,) = [combo for combo, n in counts.items() if n > 1]
        assert subject in {item.combo for item in edit.target.objects}
        assert edit.target.background not in {scene.background for scene in edit.references}


def test_outlines_of_one_picture_have_different_shapes() -> None:
    rng = numpy_rng(0, "colour")
    for _ in range(40):
        (drawing,) = sample_edit(rng, "colour", "any").references
        assert drawing.outlined
        assert len({item.shape for item in drawing.objects}) == len(drawing.objects)
