"""Every degradation takes out what it names and nothing else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.world.captions import all_captions
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import TINY_KINDS
from qi2.enhancer.strategies.base import quoted
from qi2.enhancer.strategies.registry import NAMES, check_mixture, strategies
from qi2.enhancer.truth import shown

LONG = (
    "A photorealistic image of an old sailor in a wooden boat, warm golden light from the left, rough knitted sweater, "
    'the sign "FISH & CO" at the top left, against a stormy sky, highly detailed'
)
GONE = {
    "background": "stormy sky",
    "layout": "top left",
    "lighting": "golden light",
    "texture": "knitted",
    "style": "photorealistic",
    "terse": "an old",
}


@pytest.mark.parametrize("name", sorted(GONE))
def test_a_strategy_takes_out_what_it_names_and_keeps_quoted_text(name: str) -> None:
    found = strategies()[name].apply(LONG, numpy_rng(0, "t"))
    assert found is not None
    assert GONE[name] not in found.prompt.lower()
    assert quoted(found.prompt) == ['"FISH & CO"']
    assert "sailor" in found.prompt
    assert found.thought


def test_a_strategy_says_none_where_there_is_nothing_of_its_kind() -> None:
    assert [name for name in ("background", "layout", "lighting", "texture", "style") if strategies()[name].apply("two dogs", numpy_rng(0, "t"))] == []


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_the_background_of_every_phrasing_of_the_world_can_be_left_out(kind: str) -> None:
    for i in range(20):
        scene = sample_scene(numpy_rng(i, "t"), kind)
        for text in all_captions(scene):
            found = strategies()["background"].apply(text, numpy_rng(i, "t"))
            assert found is not None, text
            assert scene.background not in found.prompt.split(), text
            assert "background" in found.dropped
            assert scene.background in found.thought


def test_places_of_every_phrasing_go_and_relations_stay() -> None:
    for i in range(20):
        scene = sample_scene(numpy_rng(i, "t"), "two")
        for text in all_captions(scene):
            found = strategies()["layout"].apply(text, numpy_rng(i, "t"))
            assert found is not None and not {"top", "bottom"} & set(found.prompt.split()), text
        related = sample_scene(numpy_rng(i, "t"), "relation")
        assert all(strategies()["layout"].apply(text, numpy_rng(i, "t")) is None for text in all_captions(related))


def test_everyday_words_can_be_told_back(tmp_path: Path) -> None:
    path = tmp_path / "more.json"
    path.write_text(json.dumps({"circle": ["roundie"]}))
    strategy = strategies([path])["colloquial"]
    said = {found.prompt for i in range(60) if (found := strategy.apply("a circle", numpy_rng(i, "t")))}
    assert any("roundie" in text for text in said)
    for i in range(20):
        found = strategy.apply("a red circle on white", numpy_rng(i, "t"))
        for thought in found.thought.split(", ") if found and " is " in found.thought and "speech" not in found.thought else []:
            everyday, exact = thought.split(" is ")
            assert everyday in found.prompt and exact not in found.prompt.replace(everyday, "")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"[]", "the file"),
        (b'{"circle": "ball"}', "circle"),
        (b'{"zebra": []}', "'zebra' has to be a list of phrases that is not empty"),
        (b'{"": ["ball"]}', "a phrase is empty"),
        (b"{", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"caf\xe9": ["bar"]}', "UTF-8"),
        (b'{"circle": ["\\ud800"]}', "UTF-8"),
    ],
)
def test_a_bad_file_of_wordings_is_named(tmp_path: Path, text: bytes, named: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(text)
    with pytest.raises(QI2Error, match=f"bad.json.*{named}"):
        strategies([path])


def test_a_mixture_names_known_strategies_and_chances() -> None:
    check_mixture(dict.fromkeys(NAMES, 0.5), "m")
    with pytest.raises(QI2Error, match="no strategy 'blur'"):
        check_mixture({"blur": 0.5}, "m")
    with pytest.raises(QI2Error, match="not a chance"):
        check_mixture({"style": 2.0}, "m")


def test_places_of_two_things_become_a_relation_that_is_still_asked_for() -> None:
    related = 0
    for i in range(40):
        scene = sample_scene(numpy_rng(i, "t"), "two")
        one, other = scene.objects
        for text in all_captions(scene):
            found = strategies()["relate"].apply(text, numpy_rng(i, "t"))
            assert (found is None) == (one.row != other.row and one.col != other.col), text
            if found is not None:
                related += 1
                turned = replace(scene, objects=(replace(one, row=other.row, col=other.col), replace(other, row=one.row, col=one.col)))
                assert shown(render(scene, 64), scene, tuple(found.dropped))["all"]
                assert not shown(render(turned, 64), scene, tuple(found.dropped))["all"]
    assert related
