"""The checkers accept the truth and notice every mistake."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from qi2.core.rng import numpy_rng
from qi2.data.world.checker import check, check_edit, kept_pixels, read
from qi2.data.world.edits import ALL_EDIT_KINDS, sample_edit
from qi2.data.world.mutate import fulfils, wrong_scene
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import KINDS, TINY_KINDS, Object, Scene, Word

WRONG = {
    "color": {"color", "object", "count"},
    "shape": {"shape", "object"},
    "position": {"position", "relation"},
    "exchange": {"position", "relation"},
    "missing": {"count", "object"},
    "extra": {"count"},
    "word": {"word"},
    "background": {"background"},
}


def _noisy(image: Image.Image) -> Image.Image:
    noise = np.random.Generator(np.random.PCG64(0)).normal(0, 8, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image, dtype=float) + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", [32, 48, 64, 96, 256])
@pytest.mark.parametrize("kind", TINY_KINDS)
def test_truth_passes_at_every_size(kind: str, size: int) -> None:
    rng = numpy_rng(0, "truth")
    for _ in range(60):
        scene = sample_scene(rng, kind, "any")
        assert check(render(scene, size), scene)["all"]


@pytest.mark.parametrize("kind", ["many", "portrait", "layout"])
def test_truth_of_rich_kinds_passes(kind: str) -> None:
    rng = numpy_rng(0, "truth")
    for size in (64, 128):
        for _ in range(30):
            scene = sample_scene(rng, kind, "any")
            assert check(render(scene, size), scene)["all"]


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_mild_blur_and_noise_pass(kind: str) -> None:
    rng = numpy_rng(0, "blur")
    for _ in range(60):
        scene = sample_scene(rng, kind, "any")
        image = render(scene, 64)
        assert check(image.filter(ImageFilter.GaussianBlur(1)), scene)["all"]
        assert check(_noisy(image), scene)["all"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_wrong_attribute_is_noticed(kind: str) -> None:
    rng = numpy_rng(0, "wrong")
    for _ in range(100):
        scene = sample_scene(rng, kind, "any")
        what, other = wrong_scene(scene, rng)
        result = check(render(other, 96), scene)
        assert not result["all"]
        assert not all(result[name] for name in WRONG.get(what, set(result) - {"all"}) & set(result))


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_another_scene_fails_unless_it_fulfils_the_prompt(kind: str) -> None:
    rng = numpy_rng(0, "other")
    for _ in range(60):
        scene, other = sample_scene(rng, kind, "any"), sample_scene(rng, kind, "any")
        assert check(render(other, 64), scene)["all"] == fulfils(other, scene)


def test_relation_and_count_leave_the_layout_open() -> None:
    left, right = Object("circle", "red", 0, 0), Object("square", "blue", 0, 1)
    wanted = Scene("relation", objects=(left, right), relation="left of")
    low = Scene("two", objects=(Object("circle", "red", 1, 0), Object("square", "blue", 1, 1)))
    swapped = Scene("two", objects=(Object("circle", "red", 1, 1), Object("square", "blue", 1, 0)))
    assert check(render(low, 64), wanted)["all"]
    assert not check(render(swapped, 64), wanted)["relation"]
    two = Scene("count", objects=(left, Object("circle", "red", 0, 1)))
    assert check(render(Scene("count", objects=(left, Object("circle", "red", 1, 1))), 64), two)["all"]
    assert not check(render(Scene("one", objects=(left,)), 64), two)["count"]


def test_things_that_are_no_part_of_the_world_are_not_taken_for_objects() -> None:
    image = Image.new("RGB", (64, 64), (250, 250, 250))
    image.paste((40, 70, 215), (2, 12, 30, 18))
    image.paste((220, 35, 40), (40, 40, 60, 50))
    image.paste((25, 150, 60), (40, 50, 60, 60))
    cells = read(image).cells
    assert cells == {(0, 0): "?", (0, 1): None, (1, 0): None, (1, 1): "?"}
    assert read(Image.new("RGB", (64, 64), (10, 90, 10))).background is None


@pytest.mark.parametrize("kind", ALL_EDIT_KINDS)
def test_right_edit_is_done_and_the_source_is_not(kind: str) -> None:
    rng = numpy_rng(0, "edit")
    for split in ("train", "heldout"):
        for _ in range(20):
            edit = sample_edit(rng, kind, split)
            source = render(edit.references[0], 64)
            result = check_edit(render(edit.target, 64), edit, source)
            assert result["done"]
            assert result["all"]
            assert result["kept_mae"] == 0
            assert kept_pixels(edit, 64).any() == (edit.region != "all")
            assert not check_edit(source, edit, source)["done"]


def test_change_outside_the_region_is_measured() -> None:
    rng = numpy_rng(0, "kept")
    edit = sample_edit(rng, "add")
    source = render(edit.references[0], 64)
    other = Scene.from_dict(edit.target.to_dict() | {"background": "grey" if edit.target.background != "grey" else "pink"})
    result = check_edit(render(other, 64), edit, source)
    assert result["done"]
    assert not result["all"]
    assert result["kept_mae"] > 20


def test_word_in_the_wrong_half_is_a_wrong_position_only() -> None:
    wanted = Scene("text", words=(Word("KO", 0),))
    result = check(render(Scene("text", words=(Word("KO", 1),)), 64), wanted)
    assert result["word"]
    assert not result["position"]
