"""Failures of evaluations and suites become signals that may be diagnosed, with their truth, noise and picture."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world.edits import Edit
from qi2.data.world.render import render
from qi2.data.world.scene import Scene
from qi2.evaluation.drawing import Job, chunks
from qi2.evaluation.scorers.world import WorldReader
from qi2.evaluation.scorers.world_judge import WorldJudge
from qi2.evaluation.store import Store
from qi2.evaluation.suites.registry import find_suite
from qi2.evaluation.suites.report import write
from qi2.evaluation.suites.run import evaluate_suite
from qi2.evaluation.suites.suite import load_suite
from qi2.evaluation.suites.world import edit_suite, t2i_suite
from qi2.flywheel.collect.evaluation import failures, suite_failures
from qi2.flywheel.store import SignalStore
from tests.arena.conftest import CONFIG


def test_every_wrong_item_and_no_right_one_becomes_a_signal(evaluated: Path, tmp_path: Path) -> None:
    found = failures(evaluated, SignalStore(tmp_path), ["rlhf"])
    results = json.loads((evaluated / "evaluate" / "results.json").read_text())
    wrong = {item["prompt"] for item, verdict in zip(results["t2i"]["items"], results["t2i"]["results"]["rlhf"], strict=True) if not verdict["all"]}
    wrong |= {item["prompt"] for item, verdict in zip(results["edit"]["items"], results["edit"]["results"]["rlhf"], strict=True) if not verdict["all"]}
    assert {signal.prompt for signal in found} == wrong and 0 < len(wrong) < len(results["t2i"]["items"]) + len(results["edit"]["items"])


def test_a_failure_may_be_diagnosed_and_never_trained_on(evaluated: Path, tmp_path: Path) -> None:
    assert all(signal.heldout and not signal.trainable and signal.consent == "own" for signal in failures(evaluated, SignalStore(tmp_path)))


def test_truth_noise_and_references_are_the_suites_own(evaluated: Path, tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    items = {item.prompt: item for item in t2i_suite(CONFIG)} | {item.prompt: item for item in edit_suite(CONFIG)}
    found = failures(evaluated, store, ["sft"])
    for signal in found:
        item = items[signal.prompt]
        assert signal.seed == item.noise_seed
        if signal.task == "t2i":
            assert Scene.from_json(signal.truth) == item.scene and "all" not in signal.verdict["attributes"]
        else:
            assert Edit.from_json(signal.truth) == item.edit and signal.kind == f"edit/{item.kind}"
            assert [store.picture(name).tobytes() for name in signal.references] == [image.convert("RGB").tobytes() for image in item.references(64)]
    assert {signal.task for signal in found} == {"t2i", "ti2i"}


def test_the_picture_is_the_one_that_the_evaluation_kept(evaluated: Path, tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    found = {signal.provenance["item"]: signal for signal in failures(evaluated, store, ["sft"]) if signal.task == "t2i"}
    kept = [item.id for item in t2i_suite(CONFIG)][: CONFIG.shown]
    shown = Image.open(evaluated / "evaluate" / "samples" / "sft" / "t2i-0.png")
    assert store.picture(found[kept[0]].picture).tobytes() == shown.convert("RGB").tobytes()
    assert all(bool(signal.picture) == (name in kept) for name, signal in found.items())


def test_the_newest_model_and_its_student_are_read_unless_others_are_named(evaluated: Path, tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    assert {signal.model for signal in failures(evaluated, store)} == {"rlhf", "distill"}
    assert {signal.model for signal in failures(evaluated / "evaluate", store, ["sft"])} == {"sft"}
    assert {signal.provenance["weights"] for signal in failures(evaluated, store, ["rlhf"])} == {"ab" * 32}
    with pytest.raises(QI2Error, match="did not evaluate nosuch"):
        failures(evaluated, store, ["nosuch"])


def test_collecting_twice_gives_the_same_signals_and_adds_none(evaluated: Path, tmp_path: Path) -> None:
    store = SignalStore(tmp_path)
    first, again = failures(evaluated, store), failures(evaluated, store)
    assert [one.to_json() for one in first] == [one.to_json() for one in again]
    assert store.add(first) == len(first) and store.add(again) == 0


def test_results_whose_prompts_cannot_be_remade_are_refused(evaluated: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(evaluated, tmp_path / "tiny"))
    path = copy / "evaluate" / "results.json"
    results = json.loads(path.read_text())
    results["suite"]["hashes"]["t2i"] = "0" * 64
    path.write_text(json.dumps(results))
    with pytest.raises(QI2Error, match="differs from manifest"):
        failures(copy, SignalStore(tmp_path / "store"))
    path.with_name("manifest.json").unlink()
    with pytest.raises(QI2Error, match="other prompts"):
        failures(copy, SignalStore(tmp_path / "store"))
    path.write_text("{}")
    with pytest.raises(QI2Error, match="not of stage evaluate"):
        failures(copy, SignalStore(tmp_path / "store"))
    with pytest.raises(QI2Error, match="no finished evaluation"):
        failures(tmp_path / "store", SignalStore(tmp_path / "store"))


def test_a_users_pictures_no_nearer_than_chance_are_failures(tmp_path: Path) -> None:
    folder = tmp_path / "tiny" / "evaluate"
    folder.mkdir(parents=True)
    items = [{"id": name, "kind": "user", "prompt": name} for name in ("near", "far")]
    facts = {"suite": {"seed": 1, "size": 64}, "models": {}, "edit": {"items": [], "results": {}}, "figures": {"t2i/clip_mismatched": {"value": 0.2}}}
    (folder / "results.json").write_text(json.dumps({**facts, "t2i": {"items": items, "results": {"sft": [{"clip": 0.4}, {"clip": 0.1}]}}}))
    (found,) = failures(tmp_path / "tiny", SignalStore(tmp_path / "store"))
    assert found.prompt == "far" and found.truth == "" and found.verdict == {"clip": 0.1, "chance": 0.2} and found.heldout


class HalfBlind:
    """Draws the word of every second prompt."""

    name, facts, size, batch = "half", {"weights": "cd" * 32}, 64, 8

    def draw(self, jobs: Sequence[Job]) -> Iterator[list[Image.Image]]:
        items = {item.prompt: item for item in t2i_suite(CONFIG)}
        drawn = [render(items[job.prompt].scene, 64) if k % 2 else Image.new("RGB", (64, 64), "white") for k, job in enumerate(jobs)]
        return iter(chunks(drawn, self.batch))


def test_pictures_of_a_suite_that_scored_low_become_signals(tmp_path: Path) -> None:
    words = [item for item in t2i_suite(CONFIG) if item.kind == "text"]
    rows = [{"prompt": item.prompt, "category": "word", "text": item.scene.words[0].text} for item in words]
    (tmp_path / "words.json").write_text(json.dumps({"name": "words", "scorer": "ocr", "aggregate": "text", "size": 64, "prompts": rows}))
    suite, pictures, store = load_suite(tmp_path / "words.json"), Store(tmp_path / "drawn"), SignalStore(tmp_path / "signals")
    write(tmp_path / "out", [evaluate_suite(HalfBlind(), suite, WorldReader(), pictures)])
    found = suite_failures(tmp_path / "out", store, pictures)
    assert {signal.prompt for signal in found} == {item.prompt for k, item in enumerate(words) if k % 2 == 0}
    (first, *_) = found
    assert first.heldout and first.kind == "word" and first.verdict["numbers"]["score"] < 0.5 and first.provenance["setting"]["weights"] == "cd" * 32
    assert store.picture(first.picture).size == (64, 64) and suite_failures(tmp_path / "out", store, pictures) == found


class Copies:
    """Gives back what it should have edited."""

    name, facts, size, batch = "copies", {"weights": "ef" * 32}, 64, 8

    def draw(self, jobs: Sequence[Job]) -> Iterator[list[Image.Image]]:
        return ([job.references()[0] for job in part] for part in chunks(jobs, self.batch))


def test_an_edit_that_did_nothing_becomes_a_signal_with_the_references_that_its_suite_draws(tmp_path: Path) -> None:
    shipped = find_suite("world-identity")
    suite = replace(shipped, rows=shipped.rows[:3])
    pictures, store = Store(tmp_path / "drawn"), SignalStore(tmp_path / "signals")
    write(tmp_path / "out", [evaluate_suite(Copies(), suite, WorldJudge(suite), pictures)])
    found = suite_failures(tmp_path / "out", store, pictures, {"world-identity": suite})
    assert len(found) == 6 and {signal.task for signal in found} == {"ti2i"}
    for signal, row in zip(found[::2], suite.rows, strict=True):
        assert [store.picture(name).tobytes() for name in signal.references] == [one.open(64).tobytes() for one in row.references]
