"""The world's checkers as a judge of edits: worked out by hand, right for the right picture, and worth nothing for a copy or for another one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world.edits import ALL_EDIT_KINDS
from qi2.data.world.render import render
from qi2.data.world.scene import Object, Scene
from qi2.data.world.split import is_heldout
from qi2.evaluation.aggregate.registry import AGGREGATORS
from qi2.evaluation.scorers.registry import open_scorer
from qi2.evaluation.scorers.world_judge import Seen, WorldJudge, edit_of, look
from qi2.evaluation.suites import world_edits
from qi2.evaluation.suites.references.base import DrawnReference
from qi2.evaluation.suites.registry import find_suite
from qi2.evaluation.suites.row import Row
from qi2.evaluation.suites.suite import Suite, load_suite

CIRCLE, STAR = Object("circle", "red", 0, 0), Object("star", "blue", 1, 1)
SOURCE = Scene("two", objects=(CIRCLE, STAR))
SHIPPED = {"world-editing": world_edits.editing, "world-identity": world_edits.identity, "world-references": world_edits.references}


def row(source: Scene, target: Scene, region: Any, **truth: Any) -> Row:
    values = {"target": target.to_dict(), "region": region} | truth
    return Row("1", "an instruction", "recolor", (DrawnReference("world", source.to_dict()),), values)


def recoloured(color: str = "green", **truth: Any) -> Row:
    """Make the red circle green; the star stays."""
    return row(SOURCE, Scene("two", objects=(Object("circle", color, 0, 0), STAR)), [[0, 0]], **truth)


def scores(judge: WorldJudge, picture: Image.Image, item: Row) -> dict[str, float]:
    (answer,) = judge.answer([picture], item)
    assert answer is not None
    return answer["scores"]


def target_of(item: Row, size: int = 64) -> Image.Image:
    return render(edit_of(item).target, size)


def test_a_right_edit_has_all_of_every_scale() -> None:
    assert look(target_of(recoloured()), recoloured()) == Seen(1.0, 1.0, 1.0, 1.0, 1.0)


def test_a_copy_has_kept_everything_and_done_nothing() -> None:
    seen = look(render(SOURCE, 64), recoloured())
    assert (seen.done, seen.kept, seen.clean) == (0.0, 1.0, 1.0)


def test_kept_is_the_floor_over_the_mean_change_outside_the_region() -> None:
    picture = np.asarray(target_of(recoloured())).astype(int)
    picture[32:] -= 15  # two of the three cells that may not change, 15 levels each: 10 on average
    changed = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    seen = look(changed, recoloured())
    assert seen.done == 1.0
    assert seen.kept == pytest.approx(4.0 / 10, abs=0.01)  # the blue star's red and green channels are below 15 nowhere that matters
    assert look(changed, recoloured(floor=12)).kept == 1.0


def test_clean_is_the_share_of_cells_and_background_that_show_something_of_the_world() -> None:
    picture = target_of(recoloured())
    picture.paste(Image.effect_noise((32, 32), 120).convert("RGB"), (32, 0))  # noise in one cell of four
    assert look(picture, recoloured()).clean == pytest.approx(4 / 5)


def test_preservation_is_half_a_shape_and_half_a_colour_of_the_most_like_object() -> None:
    item = recoloured(keep=[{"color": "blue", "shape": "star"}, {"color": "green", "shape": "circle"}])
    shown = Scene("two", objects=(Object("circle", "cyan", 0, 0), STAR))
    assert look(render(shown, 64), item).preserved == pytest.approx((1 + 0.5) / 2)
    assert look(render(Scene("many"), 64), item).preserved == 0.0


def test_following_asks_for_what_is_new_alone() -> None:
    """The circle before a pink background, at the lower left, with a green square beside it: place, background and square are asked for."""
    square = Object("square", "green", 1, 1)
    target = Scene("two", background="pink", objects=(Object("circle", "red", 1, 0), square))
    item = row(Scene("one", objects=(CIRCLE,)), target, "all", keep=[{"color": "red", "shape": "circle"}])
    assert look(render(target, 64), item).followed == 1.0
    assert look(render(Scene("one", objects=(CIRCLE,)), 64), item).followed == 0.0
    assert look(render(Scene("two", background="white", objects=target.objects), 64), item).followed == pytest.approx(2 / 3)


def test_a_style_is_kept_where_background_and_texture_are_those_of_the_second_picture() -> None:
    target = Scene("one", background="pink", texture="dots", objects=(CIRCLE,))
    item = row(Scene("one", objects=(CIRCLE,)), target, "background", keep=[{"background": "pink", "texture": "dots"}])
    seen = look(render(target, 64), item)
    assert (seen.preserved, seen.followed) == (1.0, 1.0)
    copied = look(render(Scene("one", objects=(CIRCLE,)), 64), item)
    assert (copied.preserved, copied.clean) == (0.0, 1.0)
    assert look(render(Scene("one", background="pink", texture="stripes", objects=(CIRCLE,)), 64), item).preserved == 0.0


@pytest.mark.parametrize("name", SHIPPED)
def test_the_right_pictures_of_a_shipped_suite_have_full_marks_and_copies_none(name: str) -> None:
    suite = find_suite(name)
    judge, aggregator = open_scorer(suite), AGGREGATORS[suite.config.aggregate]
    assert isinstance(judge, WorldJudge) and judge.name == "world-checker"
    best = 10.0 if suite.config.aggregate == "gedit" else 1.0
    for item in suite.rows:
        assert is_heldout(edit_of(item).target) or edit_of(item).target.outlined, item.id
        right, copied = ({"scores": scores(judge, picture, item)} for picture in (target_of(item), item.references[0].open(64)))
        numbers = aggregator.measure(right, item, {})
        parts = numbers.values() if best == 1.0 else [numbers["score"]]
        assert min(parts) == best, (item.id, numbers)
        done = aggregator.measure(copied, item, {})
        assert (done["semantics"] if best == 10 else done["score"]) < best, (item.id, done)


def test_shipped_rows_are_what_the_code_draws_and_cover_every_kind() -> None:
    for name, lines in SHIPPED.items():
        shipped = Path(f"conf/suites/{name}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in shipped] == json.loads(json.dumps(lines()))
    assert {item.category for item in find_suite("world-editing").rows} == set(ALL_EDIT_KINDS)
    counts = {item.category: len(item.references) for item in find_suite("world-references").rows}
    assert counts == {"two_added": 2, "two_gathered": 2, "style": 2, "three_gathered": 3}


def test_the_three_scales_agree_by_the_stated_rule() -> None:
    suite = find_suite("world-editing")
    parts, whole = WorldJudge(find_suite("world-editing-parts")), WorldJudge(suite)
    assert len({parts.identity, whole.identity, WorldJudge(find_suite("world-identity")).identity}) == 3
    assert scores(whole, render(SOURCE, 64), recoloured()) == {"semantics": 0.0, "quality": [10.0, 10.0]}
    assert scores(parts, render(SOURCE, 64), recoloured()) == {"compliance": 1.0, "naturalness": 5.0, "integrity": 5.0}


def written(folder: Path, text: str) -> Suite:
    (folder / "s.yaml").write_text(text)
    return load_suite(folder / "s.yaml")


def test_a_suite_that_the_world_cannot_judge_says_so_before_anything_is_drawn(tmp_path: Path) -> None:
    scene = "references: [{world: {kind: one}}]"
    with pytest.raises(QI2Error, match="row 1 is no edit of the world"):
        open_scorer(written(tmp_path, f"name: s\ntask: edit\nscorer: judge\naggregate: gedit\nlocal: world\nprompts: [{{prompt: a, {scene}}}]\n"))
    with pytest.raises(QI2Error, match="does not know the scale of aggregate wise"):
        open_scorer(written(tmp_path, "name: s\nscorer: judge\naggregate: wise\nlocal: world\nprompts: [{prompt: a, category: time, rubric: b}]\n"))


@pytest.mark.parametrize("name", ["world-portraits", "world-layouts"])
def test_the_worlds_faces_and_pages_are_answered_attribute_by_attribute(name: str) -> None:
    suite = find_suite(name)
    scorer = open_scorer(suite)
    assert scorer.name == "world-checker" and len(suite.rows) == 40
    for item in suite.rows[:8]:
        scene = Scene.from_dict(item.truth["scene"])
        assert is_heldout(scene)
        right, bare = scorer.answer([render(scene, 64), render(Scene("many", background=scene.background), 64)], item)
        assert right is not None and bare is not None
        assert all(right["answers"].values()), item.id
        assert bare["answers"]["background"] and not all(bare["answers"].values())


def test_one_wrong_feature_is_one_wrong_answer() -> None:
    suite = find_suite("world-portraits")
    item = suite.rows[0]
    scene = Scene.from_dict(item.truth["scene"])
    assert scene.portrait is not None
    other = replace(scene, portrait=replace(scene.portrait, shirt="red" if scene.portrait.shirt != "red" else "blue"))
    (answer,) = open_scorer(suite).answer([render(other, 64)], item)
    assert answer is not None and [name for name, right in answer["answers"].items() if not right] == ["shirt"]
    assert AGGREGATORS["dpg"].measure(answer, item, {})["score"] == pytest.approx(5 / 6)


def test_questions_that_the_checker_cannot_answer_are_named(tmp_path: Path) -> None:
    text = "name: s\nscorer: vqa\naggregate: dpg\nlocal: world\nprompts: [{prompt: a, SCENE questions: [{id: hat, question: a hat}]}]\n"
    with pytest.raises(QI2Error, match="row 1 has no scene"):
        open_scorer(written(tmp_path, text.replace("SCENE", "")))
    with pytest.raises(QI2Error, match="row 1 asks for hat; of its scene the world's checker knows"):
        open_scorer(written(tmp_path, text.replace("SCENE", "scene: {kind: many},")))
