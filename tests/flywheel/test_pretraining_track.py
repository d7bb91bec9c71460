"""The pre-training track makes new training data for what failed, of the training split alone, and writes what review accepted for training to read."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from qi2.config import load
from qi2.core.publish import verify
from qi2.core.rng import numpy_rng
from qi2.data.captions.captioner import TruthCaptioner, load_captioner
from qi2.data.captions.config import CaptionConfig
from qi2.data.curate_config import STAGES
from qi2.data.shards import Sidecar
from qi2.data.world.captions import captions
from qi2.data.world.checker import check
from qi2.data.world.edits import Edit, sample_edit
from qi2.data.world.scene import Scene
from qi2.data.world.split import is_heldout
from qi2.flywheel.attribution.diagnose import training_prompts
from qi2.flywheel.retrieval.corpus import Corpus, accepted_shards
from qi2.flywheel.retrieval.leaks import HeldOut, look
from qi2.flywheel.review.candidate import Candidate
from qi2.flywheel.review.queue import ReviewQueue
from qi2.flywheel.tracks.pretraining import Track, candidates, taken_rows, unused_rows, write_accepted
from qi2.recipe import Recipe
from tasks.flywheel import parts
from tests.evaluation.vlm_server import serve
from tests.flywheel.retrieval_world import make_raw, scenes, shows


@dataclass(frozen=True)
class Case:
    """A failing prompt."""

    id: str
    task: str
    kind: str
    prompt: str
    truth: Any = None


@dataclass(frozen=True)
class Decision:
    """Where it was sent."""

    signal: str
    track: str = "pretraining"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_raw(folder / "raw")
    return folder


@pytest.fixture
def track(runs: Path, tmp_path: Path) -> Track:
    return Track(Corpus.open(runs, tmp_path / "corpus", pictures=False), ReviewQueue(tmp_path / "queue"), HeldOut.open(runs))


def _case(name: str, scene: Scene) -> Case:
    return Case(name, "t2i", scene.kind, captions(scene, numpy_rng(0, name), 1)[0], scene)


def _curated(folder: Path, idle: dict[str, str]) -> Path:
    """Scores of a curation that left these rows out for these reasons, and kept the rest."""
    folder.mkdir()
    names = [f"world-{i}" for i in range(300)]
    table = pd.DataFrame({"id": names, "split": "train"})
    for stage in STAGES:
        table[f"reason_{stage}"] = [idle.get(name) for name in names]
    table.to_parquet(folder / "scores.parquet")
    return folder


def test_what_a_failing_scene_lacks_is_drawn_with_exact_truth_and_is_new(track: Track) -> None:
    cases = {f"s{i}": _case(f"s{i}", scene) for i, scene in enumerate(scenes(4, "failing", shows))}
    made = candidates([Decision(name) for name in cases], cases, 24, track)
    assert len(made) == 24 == len({one.id for one in made})
    drawn = [Scene.from_json(one.truth) for one in made]
    assert sum(shows(scene) for scene in drawn) >= 20 and not any(is_heldout(scene) for scene in drawn)
    assert all(check(track.queue.picture(one.target), scene)["all"] for one, scene in zip(made, drawn, strict=True))
    known = {row["scene"] for row in track.corpus.rows.values()} | {case.truth.to_json() for case in cases.values()}
    assert not known & {one.truth for one in made}
    assert {one.origin["signal"] for one in made} == set(cases) and len(made[0].origin["neighbours"]) == 4
    assert len({scene.background for scene in drawn}) > 1


def test_a_failure_on_a_held_out_scene_brings_training_scenes_only(track: Track) -> None:
    cases = {"h": _case("h", scenes(1, "held-case", lambda scene: True, "heldout")[0])}
    made = candidates([Decision("h")], cases, 10, track)
    assert len(made) == 10 and not any(is_heldout(Scene.from_json(one.truth)) for one in made)
    assert track.heldout.check(made, track.queue.picture) == []


def test_a_failing_edit_brings_instructions_with_base_pictures(track: Track) -> None:
    edit = sample_edit(numpy_rng(0, "failing-edit"), "move")
    made = candidates([Decision("e")], {"e": Case("e", "ti2i", "edit/move", edit.instruction, edit)}, 6, track)
    assert len(made) == 6 and all(one.task == "ti2i" and len(one.references) == 1 and Edit.from_json(one.truth).kind == "move" for one in made)


def test_the_same_failures_bring_the_same_candidates_and_other_tracks_none(track: Track) -> None:
    cases = {"s": _case("s", scenes(1, "same", shows)[0])}
    assert candidates([Decision("s")], cases, 5, track) == candidates([Decision("s")], cases, 5, track)
    assert candidates([Decision("s", "rl")], cases, 5, track) == [] == candidates([Decision("s")], cases, 0, track)


def test_a_users_failure_brings_unused_rows_near_it_captioned_anew(track: Track, tmp_path: Path) -> None:
    idle = {"world-5": "balance", "world-6": "not_admitted", "world-7": "nsfw", "world-8": "near_duplicate"}
    track = replace(track, curated=_curated(tmp_path / "curated", idle), captioner=TruthCaptioner())
    assert unused_rows(tmp_path / "curated") == {"world-5", "world-6"}
    prompt = track.corpus.rows["world-6"]["captions"][0]
    made = candidates([Decision("u")], {"u": Case("u", "t2i", "mine", prompt)}, 5, track)
    assert [one.origin["row"] for one in made] == ["world-6", "world-5"]
    assert all(one.prompt not in track.corpus.rows[one.origin["row"]]["captions"] and one.origin["how"] == "pool" for one in made)


def test_the_configured_captioner_is_the_one_that_a_round_asks(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(runs, tmp_path / "runs" / "tiny")
    _curated(tmp_path / "runs" / "tiny" / "curated", {"world-5": "balance", "world-6": "not_admitted"})
    monkeypatch.chdir(tmp_path)
    with serve(lambda text, pictures: f"Something of {pictures[0].width} pixels, seen from the front.") as server:
        recipe = load(Recipe, [{"flywheel": {"captions": {"path": f"{server.url}#small-vlm"}}}])
        case = Case("u", "t2i", "mine", "a red circle at the top left on white")
        found = parts(recipe, "tiny").augment([Decision("u")], {"u": case}, 5)
    assert {one.origin["row"] for one in found} == {"world-5", "world-6"} and len(server.asked) == 2
    assert {(one.prompt, one.origin["captioned_by"]) for one in found} == {("Something of 64 pixels, seen from the front.", "served small-vlm")}


def _accept_all(queue: ReviewQueue, made: list[Candidate], runs: Path) -> None:
    """Review that accepts everything, and stage `accepted`."""
    queue.put(made)
    for one in made:
        queue.decide(one.id, "accept", by="somebody")
    write_accepted(queue, runs / "accepted" / "shards", HeldOut.open(runs))


def test_the_next_round_knows_what_this_one_added(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(runs, run := tmp_path / "runs" / "tiny")
    monkeypatch.chdir(tmp_path)
    edit = sample_edit(numpy_rng(0, "failing-edit"), "move")
    cases = {"s": _case("s", scenes(1, "failing", shows)[0]), "e": Case("e", "ti2i", "edit/move", edit.instruction, edit)}
    now, before = parts(Recipe(), "tiny"), len(training_prompts(run))
    first = list(now.augment([Decision(name) for name in cases], cases, 6))
    assert now.near is not None and now.near([first[0].prompt], 1)[0][0] < 0.95
    _accept_all(now.queue, first, run)
    later = parts(Recipe(), "tiny")
    assert later.near is not None and later.near([first[0].prompt], 1)[0][0] > 0.999
    assert len(training_prompts(run)) == before + 6 and set(training_prompts(run)) >= {one.prompt for one in first}
    again = {f"{name}, of the next weights": replace(case, id=f"{name}, of the next weights") for name, case in cases.items()}
    for named in (cases, again):
        second = later.augment([Decision(name) for name in named], named, 6)
        assert len(second) == 6 and not {_shown(one) for one in second} & {_shown(one) for one in first}


def _shown(one: Candidate) -> Any:
    """What a candidate shows, however it is said."""
    if one.task == "t2i":
        return look(Scene.from_json(one.truth))
    edit = Edit.from_json(one.truth)
    return (edit.kind, *map(look, (*edit.references, edit.target)))


def test_an_unused_row_that_was_accepted_is_not_proposed_under_another_caption(track: Track, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, run := tmp_path / "run")
    track = replace(track, curated=_curated(tmp_path / "curated", {"world-5": "balance", "world-6": "not_admitted"}))
    case = Case("u", "t2i", "mine", track.corpus.rows["world-6"]["captions"][0])
    _accept_all(track.queue, candidates([Decision("u")], {"u": case}, 1, track), run)
    corpus = Corpus.open(run, tmp_path / "next", pictures=False, extra=accepted_shards(run))
    made = candidates([Decision("u")], {"u": case}, 5, replace(track, corpus=corpus, captioner=TruthCaptioner()))
    assert taken_rows(corpus) == {"world-6"} and [one.origin["row"] for one in made] == ["world-5"]


def test_an_answer_that_fails_its_check_is_asked_for_again_and_then_the_rows_own_stands(track: Track, tmp_path: Path) -> None:
    track = replace(track, curated=_curated(tmp_path / "curated", {"world-6": "balance"}))
    prompt = track.corpus.rows["world-6"]["captions"][0]
    with serve(lambda text, pictures: "") as server:
        config = CaptionConfig(path=f"{server.url}#small-vlm", retries=1)
        made = candidates([Decision("u")], {"u": Case("u", "t2i", "mine", prompt)}, 5, replace(track, captioner=load_captioner(config), captions=config))
    assert [one.prompt for one in made] == [prompt] and "captioned_by" not in made[0].origin and len(server.asked) == 2


def test_accepted_candidates_become_shards_with_provenance_and_leaks_are_left_out(track: Track, runs: Path, tmp_path: Path) -> None:
    edit = sample_edit(numpy_rng(0, "accepted-edit"), "recolor")
    cases = {"s": _case("s", scenes(1, "accept", shows)[0]), "e": Case("e", "ti2i", "edit/recolor", edit.instruction, edit)}
    made = candidates([Decision("s"), Decision("e")], cases, 8, track)
    track.queue.put(made)
    scene = [one for one in made if one.task == "t2i"]
    leaked = Sidecar.load(runs / "raw").table.query("id == 'held-0'")["captions"].iloc[0][0]
    track.queue.decide(scene[0].id, "edit", leaked, by="somebody")
    track.queue.decide(scene[1].id, "reject", by="somebody")
    for one in made:
        if one.id not in (scene[0].id, scene[1].id):
            track.queue.decide(one.id, "accept", by="somebody")
    for name in "ab":
        assert write_accepted(track.queue, tmp_path / name, track.heldout) == {"rows": 6.0, "refused": 1.0}
    assert verify(tmp_path / "a") == verify(tmp_path / "b")
    side, told = Sidecar.load(tmp_path / "a"), json.loads((tmp_path / "a" / "provenance.json").read_text())
    assert set(told["refused"]) == {scene[0].id} and set(told["rows"]) == {*side.table.query("task != 'reference'")["id"]}
    assert all(facts["review"]["by"] == "somebody" and facts["signal"] in cases for facts in told["rows"].values())
    for row in side.table.query("task == 't2i'").to_dict("records"):
        assert check(side.image(row["id"]), Scene.from_json(row["scene"]))["all"] and row["source"] == "accepted"
    assert all(list(row) and side.image(row[0]) for row in side.table.query("task == 'ti2i'")["references"])
