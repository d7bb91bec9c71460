"""References that a row describes: drawn the same each time, part of the suite's version by their pixels, and refused by name where they cannot be drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world.render import render
from qi2.data.world.scene import Object, Scene
from qi2.evaluation.grids import GAP
from qi2.evaluation.store import Store
from qi2.evaluation.suites.references.base import DrawnReference, FileReference
from qi2.evaluation.suites.run import evaluate_suite, plan
from qi2.evaluation.suites.sheet import SIDE, sheet
from qi2.evaluation.suites.suite import Suite, load_suite

SCENE = Scene("one", objects=(Object("star", "red", 0, 1),))
WORLD = "name: w\ntask: edit\nscorer: judge\naggregate: gedit\nprompts: [{prompt: make it blue, references: [{world: WHAT}]}]\n"
CARD: dict[str, Any] = {"lines": ["OPEN", "from nine"], "wall": "navy", "paper": "white", "ink": "#200000"}


def suite(folder: Path, reference: str, size: int = 0) -> Suite:
    (folder / "w.yaml").write_text(f"size: {size}\n" + WORLD.replace("{world: WHAT}", reference))
    return load_suite(folder / "w.yaml")


def test_a_scene_is_drawn_at_the_size_of_the_picture() -> None:
    reference = DrawnReference("world", SCENE.to_dict())
    for size in (32, 64):
        assert reference.open(size).tobytes() == render(SCENE, size).tobytes()
    assert reference.hash(64) == DrawnReference("world", SCENE.to_dict()).hash(64) != reference.hash(32)


def test_the_version_covers_what_is_seen_and_not_how_it_is_written(tmp_path: Path) -> None:
    first = suite(tmp_path, "{world: {kind: one, objects: [{shape: star, color: red, row: 0, col: 1}]}}").hash
    assert suite(tmp_path, "{world: {objects: [{col: 1, row: 0, color: red, shape: star}], background: white, kind: one}}").hash == first
    assert suite(tmp_path, "{world: {kind: one, objects: [{shape: star, color: red, row: 1, col: 1}]}}").hash != first


def test_a_photograph_is_the_named_square_of_it() -> None:
    picture = DrawnReference("photo", {"file": "chelsea.png", "box": [60, 0, 300]}).open(150)
    assert picture.size == (150, 150)
    assert np.asarray(picture).std() > 20
    middle, named = (DrawnReference("photo", values).hash(64) for values in ({"file": "brick.png"}, {"file": "brick.png", "box": [0, 0, 512]}))
    assert middle == named


def test_a_card_shows_its_lines_inside_its_paper() -> None:
    pixels = np.asarray(DrawnReference("card", CARD).open(128)).astype(int)
    assert tuple(pixels[0, 0]) == (0, 0, 128)
    dark = np.argwhere(np.abs(pixels - (32, 0, 0)).sum(axis=2) < 60)
    assert len(dark) > 100
    assert dark.min() > 0.1 * 128 and dark.max() < 0.9 * 128
    assert DrawnReference("card", CARD | {"lines": ["OPEN", "from ten"]}).hash(128) != DrawnReference("card", CARD).hash(128)


def test_the_local_reader_reads_the_longest_cards_of_the_shipped_suite() -> None:
    pytest.importorskip("rapidocr", reason="the extra ocr is not installed")
    from qi2.evaluation.aggregate.registry import AGGREGATORS
    from qi2.evaluation.scorers.rapidocr import RapidReader
    from qi2.evaluation.suites.registry import find_suite
    from qi2.evaluation.suites.row import Row

    cards = {str(item.references[0].values["lines"]): item.references[0] for item in find_suite("editing-text").rows}  # type: ignore[attr-defined]
    reader = RapidReader()
    for card in sorted(cards.values(), key=lambda card: -len(card.values["lines"]))[:2]:
        item = Row("1", "", "en", (card,), {"text": card.values["lines"], "language": "en"})
        (answer,) = reader.answer([card.open(512)], item)
        assert AGGREGATORS["text"].measure(answer, item, {})["score"] == 1.0, answer


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("{worlds: {kind: one}}", "row 1: a reference is drawn by one of world, photo, card, not by 'worlds'"),
        ("{world: {kind: one, objects: [7]}}", "row 1: the reference world: .* cannot be drawn"),
        ("{photo: {file: me.png}}", "row 1: .*'me.png' is no photograph of this project"),
        ("{photo: {file: brick.png, box: [400, 0, 200]}}", "row 1: .*leaves brick.png, which is 512x512"),
        ("{card: {lines: [营业中]}}", "row 1: .*font that Pillow ships"),
        ("{card: {lines: [a], colour: red}}", "row 1: .*a card has no colour; it has ink"),
        ("gone.png", "row 1: there is no reference image"),
    ],
)
def test_what_cannot_be_drawn_is_named_with_its_row(tmp_path: Path, reference: str, message: str) -> None:
    with pytest.raises(QI2Error, match=message):
        suite(tmp_path, reference)


def test_painter_and_judge_get_the_drawn_references_and_their_pixels_are_in_the_pictures_key(tmp_path: Path) -> None:
    got: list[Any] = []

    class Copies:
        name, facts, size, batch = "copies", {"model": "copies"}, 48, 4

        def draw(self, jobs: Any) -> Any:
            got.extend(job.references() for job in jobs)
            return iter([[group[0] for group in got]])

    class Judge:
        name = identity = "judge"

        def answer(self, pictures: Any, row: Any) -> list[Any]:
            same = pictures[0].convert("RGB").tobytes() == row.references[0].open(pictures[0].width).tobytes()
            return [{"scores": {"semantics": 0, "quality": 10 * same}}]

    one = suite(tmp_path, "{world: {kind: one, objects: [{shape: star, color: red, row: 0, col: 1}]}}")
    store = Store(tmp_path / "store")
    result = evaluate_suite(Copies(), one, Judge(), store, resamples=10)
    assert [image.size for image in got[0]] == [(48, 48)]
    assert result.figures["quality"].value == 10
    assert sheet([result, result], store).width == sheet([result], store).width + SIDE + GAP
    other = suite(tmp_path, "{world: {kind: one, objects: [{shape: star, color: cyan, row: 0, col: 1}]}}")
    assert plan(Copies(), one, 0)[0].key != plan(Copies(), other, 0)[0].key
    assert plan(Copies(), one, 0)[0].facts["references"] == [DrawnReference("world", SCENE.to_dict()).hash(48)]


def test_a_file_is_what_it_is_at_every_size(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    reference = FileReference(tmp_path / "a.png")
    assert reference.open(64).size == (8, 8)
    assert reference.hash(64) == reference.hash(0)


def test_a_photograph_of_a_phone_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned by a quarter
    Image.new("RGB", (16, 8), "red").save(tmp_path / "a.jpg", exif=exif)
    assert FileReference(tmp_path / "a.jpg").open(64).size == (8, 16)
