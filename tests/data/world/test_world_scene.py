"""Scenes, the split, captions and drawing."""

import numpy as np
import pytest

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.world.captions import all_captions, captions, structured_caption
from qi2.data.world.edits import ALL_EDIT_KINDS, all_instructions, sample_edit
from qi2.data.world.palette import ALPHABET, COLORS, SHAPES
from qi2.data.world.render import render
from qi2.data.world.sample import heldout_prompts, sample_scene
from qi2.data.world.scene import KINDS, TINY_KINDS, Object, Scene, Word
from qi2.data.world.sheet import sheet
from qi2.data.world.split import HELDOUT_COMBOS, HELDOUT_WORDS, is_heldout
from qi2.data.world.vocabulary import VOCABULARY


@pytest.mark.parametrize("kind", KINDS)
def test_scene_survives_json(kind: str) -> None:
    rng = numpy_rng(0, "json")
    for _ in range(50):
        scene = sample_scene(rng, kind, "any")
        assert Scene.from_json(scene.to_json()) == scene


def test_text_that_is_no_scene_is_named() -> None:
    with pytest.raises(QI2Error, match="not a scene"):
        Scene.from_json('{"kind":"one","color":"red"}')


@pytest.mark.parametrize("kind", KINDS)
def test_training_scenes_never_show_what_is_held_out(kind: str) -> None:
    rng = numpy_rng(0, "split")
    assert not any(is_heldout(sample_scene(rng, kind, "train")) for _ in range(200))
    assert all(is_heldout(sample_scene(rng, kind, "heldout")) for _ in range(50))


def test_every_part_of_what_is_held_out_occurs_in_training() -> None:
    known = {(color, shape) for color in COLORS for shape in SHAPES} - HELDOUT_COMBOS
    assert {color for color, _ in known} == set(COLORS)
    assert {shape for _, shape in known} == set(SHAPES)
    words = {a + b for a in ALPHABET for b in ALPHABET} - HELDOUT_WORDS
    assert (len(HELDOUT_COMBOS), len(HELDOUT_WORDS), len(words)) == (4, 20, 124)
    assert {word[0] for word in words} == {word[1] for word in words} == set(ALPHABET)


def test_heldout_prompts_are_fixed_and_disjoint() -> None:
    first = heldout_prompts(3, 60)
    assert first == heldout_prompts(3, 60)
    scenes = [scene for _, scene in first]
    assert len(set(scenes)) == 60
    assert all(is_heldout(scene) for scene in scenes)
    assert {scene.kind for scene in scenes} == set(TINY_KINDS)
    assert not any(is_heldout(scene) for _, scene in heldout_prompts(3, 60, split="train"))


def test_prompts_end_where_a_kind_has_no_more_scenes() -> None:
    assert len(heldout_prompts(0, 500, ["one"])) == 4 * 4 * 4


@pytest.mark.parametrize("kind", KINDS)
def test_captions_use_the_vocabulary_and_state_the_background(kind: str) -> None:
    rng = numpy_rng(0, "captions")
    for _ in range(30):
        scene = sample_scene(rng, kind, "any")
        texts = all_captions(scene)
        assert len(texts) >= 5
        for text in texts:
            words = text.replace(",", " ").split()
            assert len(words) <= 20
            assert scene.background in words
            assert {word for word in words if not word.isupper()} <= set(VOCABULARY)


@pytest.mark.parametrize("kind", ALL_EDIT_KINDS)
def test_instructions_use_the_vocabulary(kind: str) -> None:
    rng = numpy_rng(0, "instructions")
    for _ in range(30):
        texts = all_instructions(sample_edit(rng, kind))
        assert len(texts) >= 5
        assert {word for text in texts for word in text.split() if not word.isupper()} <= set(VOCABULARY)


def test_captions_are_deterministic_and_differ() -> None:
    scene = sample_scene(numpy_rng(0, "x"), "two")
    assert captions(scene, numpy_rng(1, "c"), 3) == captions(scene, numpy_rng(1, "c"), 3)
    assert len(set(captions(scene, numpy_rng(1, "c"), 5))) == 5


def test_structured_caption_names_every_cell() -> None:
    scene = Scene("text", background="white", objects=(Object("circle", "red", 1, 1),), words=(Word("KO", 0),))
    assert structured_caption(scene) == "white ; K , O , none , red circle"


def test_drawing_is_deterministic_and_scales() -> None:
    scene = sample_scene(numpy_rng(2, "x"), "text", "any")
    assert render(scene, 64).tobytes() == render(scene, 64).tobytes()
    small, large = (np.asarray(image, dtype=float) for image in (render(scene, 64), render(scene, 256).reduce(4)))
    assert np.abs(small - large).mean() < 2


def test_sheet_shows_every_kind() -> None:
    assert sheet([*KINDS, *ALL_EDIT_KINDS], 1).width > 200
    with pytest.raises(QI2Error, match="no kind"):
        sheet(["circle"], 1)
