"""Accepted candidates as shards: pictures with their references, in the same bytes whatever their order, and nothing without a target."""

from pathlib import Path

import pytest

from qi2.core.errors import QI2Error
from qi2.core.publish import verify
from qi2.core.rng import numpy_rng
from qi2.data.shards import Sidecar
from qi2.data.world.edits import Edit, sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.flywheel import accepted
from qi2.flywheel.review.candidate import Candidate
from qi2.flywheel.review.queue import ReviewQueue


@pytest.fixture
def queue(tmp_path: Path) -> ReviewQueue:
    return ReviewQueue(tmp_path / "queue")


def scene(queue: ReviewQueue, name: str = "a", **origin: str) -> Candidate:
    shown = sample_scene(numpy_rng(1, name), "count", "train")
    return Candidate(name, "t2i", f"picture {name}", queue.keep(render(shown, 64)), (), origin, shown.to_json())


def edit(queue: ReviewQueue) -> Candidate:
    change = sample_edit(numpy_rng(2, "edit"), "combine", "train")
    references = tuple(queue.keep(render(part, 64)) for part in change.references)
    return Candidate("e", "ti2i", change.instruction, queue.keep(render(change.target, 64)), references, {"signal": "s"}, change.to_json())


def test_pictures_and_references_become_rows(queue: ReviewQueue, tmp_path: Path) -> None:
    assert accepted.write([scene(queue), edit(queue)], queue.picture, tmp_path / "out") == 2
    verify(tmp_path / "out")
    table = Sidecar.load(tmp_path / "out").table.set_index("task")
    assert table.loc["t2i", "kind"] == "count"
    assert table.loc["ti2i", "kind"] == "combine"
    assert len(table.loc["ti2i", "references"]) == len(table.loc[["reference"]])
    assert table.loc["ti2i", "origin"] == "s"
    assert Edit.from_json(table.loc["ti2i", "edit"])


def test_order_and_repetition_change_no_byte(queue: ReviewQueue, tmp_path: Path) -> None:
    made = [scene(queue, name) for name in "abc"]
    twin = Candidate("z", made[0].task, made[0].prompt, made[0].target, (), {}, made[0].truth)
    accepted.write(made, queue.picture, tmp_path / "one")
    assert accepted.write([*made[::-1], twin], queue.picture, tmp_path / "two") == 3
    assert accepted.version(tmp_path / "one") == accepted.version(tmp_path / "two") != ""
    assert accepted.version(tmp_path / "none") == ""


def test_a_kind_may_be_named_by_its_origin(queue: ReviewQueue, tmp_path: Path) -> None:
    accepted.write([scene(queue, kind="edit/own")], queue.picture, tmp_path / "out")
    assert Sidecar.load(tmp_path / "out").table["kind"].tolist() == ["own"]


def test_a_picture_that_is_gone_stops_it_and_leaves_what_was_there(queue: ReviewQueue, tmp_path: Path) -> None:
    accepted.write([scene(queue)], queue.picture, tmp_path / "out")
    before = accepted.version(tmp_path / "out")
    with pytest.raises(QI2Error):
        accepted.write([Candidate("x", "t2i", "gone", "0" * 64)], queue.picture, tmp_path / "out")
    assert accepted.version(tmp_path / "out") == before
