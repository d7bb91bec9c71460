"""A round on a run of untrained models: it changes nothing where nothing fails, goes on where it stood, and closes with what has changed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.accepted_config import AcceptedConfig
from qi2.data.shards import Sidecar
from qi2.data.world.captions import captions
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.evaluation.suites.world import t2i_suite
from qi2.flywheel.attribution.cases import Case
from qi2.flywheel.attribution.decide import Decision
from qi2.flywheel.attribution.diagnose import Diagnosis
from qi2.flywheel.retrieval.leaks import HeldOut
from qi2.flywheel.review.candidate import Candidate
from qi2.flywheel.review.queue import Mode, ReviewQueue
from qi2.flywheel.round import Flywheel, Parts, State, prompts_by_kind, version
from qi2.flywheel.signals import Signal
from qi2.flywheel.store import SignalStore
from qi2.rlhf.config import RLHFConfig
from tests.evaluation.untrained import EVALUATE, build_run
from tests.flywheel.test_probes import Recipe as ProbesRecipe


@dataclass
class Recipe(ProbesRecipe):
    """The part of a recipe that a round reads."""

    rlhf: RLHFConfig = field(default_factory=RLHFConfig)
    accepted: AcceptedConfig = field(default_factory=AcceptedConfig)


ITEMS = t2i_suite(EVALUATE)


def results(right: bool) -> str:
    rows = [{"all": right} for _ in ITEMS]
    items = [{"id": item.id, "kind": item.kind, "prompt": item.prompt} for item in ITEMS]
    none: dict[str, Any] = {"items": [], "results": {}}
    return json.dumps({"suite": {"hashes": {"t2i": "x", "edit": "y"}}, "t2i": {"items": items, "results": {"rlhf": rows}}, "edit": none})


@pytest.fixture
def wheel(tmp_path: Path) -> Flywheel:
    runs = build_run(tmp_path / "runs", ("sft", "rlhf"))
    (runs / "evaluate").mkdir()
    (runs / "evaluate" / "results.json").write_text(results(right=False))
    store = SignalStore(tmp_path / "home" / "signals")
    queue = ReviewQueue(tmp_path / "home" / "queue")
    parts = Parts(store, queue, lambda: HeldOut(world=True), lambda decisions, cases, most: [])
    return Flywheel(Recipe(), Recipe(), tmp_path / "home", runs, parts)  # type: ignore[arg-type]


def failing(n: int, model: str = "rlhf") -> list[Signal]:
    return [Signal("evaluation", "t2i", "one", f"a thing {i}", model, {"attributes": {"count": False}}, ITEMS[0].scene.to_json()) for i in range(n)]


def test_without_failures_a_round_changes_nothing_and_says_so(wheel: Flywheel) -> None:
    state = wheel.open()
    assert (state.phase, state.overrides) == ("nothing", {})
    assert "changes nothing" in state.message
    assert "changes nothing" in (wheel.folder(1) / "report.md").read_text()


def test_failures_too_few_to_act_on_change_nothing_and_are_kept_with_their_reason(wheel: Flywheel) -> None:
    wheel.parts.store.add(failing(2))
    assert wheel.open().phase == "nothing"
    lines = [json.loads(line) for line in (wheel.folder(1) / "decisions.jsonl").read_text().splitlines()]
    assert {line["track"] for line in lines} == {"none"}
    assert all("too few failures" in line["reason"] for line in lines)


def test_failures_of_another_model_are_not_tested(wheel: Flywheel) -> None:
    wheel.parts.store.add(failing(2, "sft"))
    assert wheel.open().provenance["failures"] == 0


def test_a_prompt_that_fails_again_after_training_is_a_failure_of_the_next_round(wheel: Flywheel) -> None:
    """The evaluation tells every prompt that fails, with the weights' hash and, beyond its first prompts, without a picture."""
    manifest = wheel.runs / "rlhf" / "manifest.json"
    for number, weights in enumerate(("ab" * 32, "cd" * 32), start=1):
        manifest.write_text(json.dumps({"files": {"model.safetensors": weights}}))
        wheel.parts.store.add([replace(signal, provenance={"weights": weights}) for signal in failing(2)])
        assert (wheel.next, wheel.open().provenance["failures"], len(wheel.parts.store.all())) == (number, 2, 2 * number)
        assert len((wheel.folder(1) / "decisions.jsonl").read_text().splitlines()) == 2


def mined(n: int, right: bool = False, tried: int = 0) -> list[Signal]:
    """Bad cases of one mining; where they are ``right`` only a reward has complained."""
    facts, verdict = {"seed": 1, "tried": {"t2i/one": tried or n}}, {"attributes": {"count": right}, "tests": ["low"] if right else ["checker"]}
    return [Signal("mining", "t2i", "one", f"a thing {i}", "rlhf", verdict, ITEMS[0].scene.to_json(), seed=i, provenance=facts) for i in range(n)]


def test_what_mining_found_and_cost_stands_in_the_report(wheel: Flywheel) -> None:
    wheel.parts.store.add(mined(2))
    facts = {"model": "rlhf", "prompts": 9, "pictures": 9, "left_out": 1, "seconds": 3.2, "found": 2, "new": 2, "tests": {"checker": [2, 2, 2]}}
    state = wheel.open(facts)
    assert state.provenance["mined"] == facts and state.provenance["failures"] == 2
    told = "Mining drew 9 pictures of 9 training prompts with rlhf in 3 s, 1 prompts left out as held out: 2 bad cases, 2 of them new (the exact checker 2)."
    assert told in (wheel.folder(1) / "report.md").read_text() and json.loads((wheel.folder(1) / "report.json").read_text())["mined"] == facts


def test_failures_are_a_share_of_all_that_were_drawn_mined_ones_too(wheel: Flywheel) -> None:
    wheel.parts.store.add(mined(6, tried=200))
    assert any("6 failures among 202 prompts of its kind" in reason for reason in wheel.open().reasons)


def test_failures_that_were_not_tested_count_in_the_share_too(wheel: Flywheel) -> None:
    wheel.cfg.flywheel.probes.most = 6
    wheel.parts.store.add(mined(50, tried=100))
    state = wheel.open()
    assert state.provenance["failures"] == 6 and not any("no more than 10%" in reason for reason in state.reasons)


def test_a_picture_that_only_a_reward_dislikes_is_not_attributed_but_kept(wheel: Flywheel) -> None:
    wheel.parts.store.add(mined(6, right=True))
    assert wheel.open().provenance["failures"] == 0 and len(wheel.parts.store.all()) == 6


def test_a_new_round_has_the_next_number_and_its_own_digest(wheel: Flywheel) -> None:
    first = wheel.open()
    wheel.parts.store.add(failing(1))
    second = wheel.open()
    assert (first.number, second.number) == (1, 2)
    assert first.provenance["signals"] != second.provenance["signals"]


def test_a_round_that_is_ready_is_not_made_again(wheel: Flywheel) -> None:
    wheel.folder(1).mkdir(parents=True)
    wheel._save(State(1, "ready", {"rlhf.prompts.kinds": {"one": 2.0}}))
    assert wheel.open() == State(1, "ready", {"rlhf.prompts.kinds": {"one": 2.0}})


def test_closing_tells_what_changed_on_the_same_suite(wheel: Flywheel) -> None:
    folder = wheel.folder(1)
    folder.mkdir(parents=True)
    (folder / "before.json").write_text(results(right=False))
    (wheel.runs / "evaluate" / "results.json").write_text(results(right=True))
    wheel._save(State(1, "ready", {"x": 1}, acted={"t2i/one": ["rl"]}, provenance={"model": "rlhf"}))
    state = wheel.close()
    assert state.phase == "done"
    made = json.loads((folder / "report.json").read_text())
    assert made["tracks"]["rl"] == {"closed": 2, "opened": 0, "unchanged": 0}
    assert made["tracks"]["untouched"]["closed"] == len(ITEMS) - 2
    with pytest.raises(QI2Error, match="no round waits"):
        wheel.close()


def missing(store: SignalStore, n: int) -> list[Signal]:
    """Failures of a kind that an untrained model never gets right, as a user allows training on."""
    scenes = [sample_scene(numpy_rng(5, "round", i), "one", "train") for i in range(n)]
    return [
        Signal("feedback", "t2i", "one", captions(s, numpy_rng(6, "round", i))[0], "rlhf", {}, s.to_json(), consent="training", subject="somebody")
        for i, s in enumerate(scenes)
    ]


def with_queue(wheel: Flywheel, mode: str) -> ReviewQueue:
    """The round's queue, and a track that renders three new scenes of the failed kind."""
    queue = wheel.parts.queue

    def augment(decisions: Sequence[Decision], cases: Mapping[str, Case], most: int) -> list[Candidate]:
        made = []
        for i in range(min(3, most)):
            scene = sample_scene(numpy_rng(7, "augment", i), "one", "train")
            origin = {"signal": decisions[i].signal, "how": "render", "kind": scene.kind}
            made.append(Candidate(f"c{i}", "t2i", captions(scene, numpy_rng(8, "augment", i))[0], queue.keep(render(scene, 64)), (), origin, scene.to_json()))
        return made

    wheel.parts.augment = augment
    wheel.cfg.flywheel.review.mode = mode
    return queue


def test_missing_knowledge_waits_for_people_and_goes_on_when_they_have_decided(wheel: Flywheel) -> None:
    queue = with_queue(wheel, "person")
    wheel.parts.store.add(missing(wheel.parts.store, 8))
    state = wheel.open()
    assert (state.phase, state.pending, state.candidates) == ("review", 3, 3)
    assert "3 of 3 candidates wait for review" in state.message
    queue.decide("c0", "accept", by="me")
    queue.decide("c1", "edit", "another prompt", by="me")
    assert wheel.open().pending == 1
    queue.decide("c2", "reject", by="me", why="ugly")
    state = wheel.open()
    assert (state.phase, state.number) == ("ready", 1)
    assert state.overrides == {"accepted.path": str(wheel.home / "accepted")}
    table = Sidecar.load(wheel.home / "accepted").table
    assert "another prompt" in [text for group in table["captions"] for text in group]
    assert (len(table), set(table["kind"]), set(table["split"])) == (2, {"one"}, {"train"})
    assert state.provenance["data"]


def test_what_is_held_out_is_refused_even_where_people_accepted_it(wheel: Flywheel) -> None:
    queue = with_queue(wheel, "person")
    wheel.parts.store.add(missing(wheel.parts.store, 8))
    wheel.open()
    queue.decide("c0", "edit", "a red star at the top left on white", by="me")
    for name in ("c1", "c2"):
        queue.decide(name, "accept", by="me")
    state = wheel.open()
    assert state.provenance["refused_as_held_out"] == 1
    assert len(Sidecar.load(wheel.home / "accepted")) == 2


def test_waived_review_is_recorded_with_every_sample(wheel: Flywheel) -> None:
    queue = with_queue(wheel, "waived")
    wheel.parts.store.add(missing(wheel.parts.store, 8))
    assert wheel.open().phase == "ready"
    assert {decision["mode"] for decision in queue.decisions()} == {"waived"}


def test_a_round_that_people_review_waits_also_after_a_waived_one(wheel: Flywheel) -> None:
    queue = with_queue(wheel, "person")
    queue.put([Candidate("old", "t2i", "a red circle", queue.keep(render(ITEMS[0].scene, 64)))], "home/000", Mode("waived", "last month's round"))
    wheel.parts.store.add(missing(wheel.parts.store, 8))
    state = wheel.open()
    assert (state.phase, state.pending) == ("review", 3) and [one.id for one in queue.accepted()] == ["old"]
    assert queue.batch("c0") == {"batch": "home/001", "mode": "person"} and "qi2 flywheel review home;" in state.message


def test_a_round_whose_candidates_are_all_rejected_changes_nothing(wheel: Flywheel) -> None:
    queue = with_queue(wheel, "person")
    wheel.parts.store.add(missing(wheel.parts.store, 8))
    wheel.open()
    for name in ("c0", "c1", "c2"):
        queue.decide(name, "reject", by="me")
    assert wheel.open().phase == "nothing"


def test_what_a_person_deletes_leaves_earlier_rounds_too(wheel: Flywheel) -> None:
    with_queue(wheel, "waived")
    wheel.parts.store.add(missing(wheel.parts.store, 8))
    wheel.open()
    assert (wheel.folder(1) / "decisions.jsonl").read_text()
    wheel.parts.store.delete(subject="somebody", why="asked")
    wheel.forget()
    assert (wheel.folder(1) / "decisions.jsonl").read_text() == ""


def test_what_people_say_of_a_held_out_prompt_teaches_the_enhancer_nothing_and_the_report_says_so(wheel: Flywheel) -> None:
    """Consent to training does not make an evaluation's prompt a training prompt."""
    held = HeldOut()
    held.text("gimme an evaluation's thing")
    wheel.parts.heldout = lambda: held
    cases = [Case(name, "t2i", "user", f"gimme {text}") for name, text in (("a", "an evaluation's thing"), ("b", "a thing of my own"))]
    decisions = [Decision(case.id, "prompt", {"own": {"wordings": {f"{case.prompt[6:]} on white": [8, 8]}}}, "why.") for case in cases]
    wheel.folder(1).mkdir(parents=True)
    state = wheel._act(State(1), Diagnosis(cases, [], decisions))
    lines = (wheel.home / "prompts" / "examples.jsonl").read_text().splitlines()
    assert [json.loads(line)["signal"] for line in lines] == ["b"]
    assert any("1 failing prompts teach the enhancer nothing" in reason for reason in state.reasons)


def published(wheel: Flywheel) -> list[str]:
    return sorted(Sidecar.load(wheel.accepted).table["id"])


def taken(wheel: Flywheel) -> None:
    """A round that is ready, whose three samples training reads."""
    with_queue(wheel, "waived")
    wheel.parts.store.add(missing(wheel.parts.store, 8))
    state = wheel.open()
    assert state.phase == "ready" and len(published(wheel)) == 3
    wheel.cfg.accepted.path = state.overrides["accepted.path"]


def forget_first(wheel: Flywheel) -> str:
    """Have the signal of c0 deleted; returns its prompt."""
    (one,) = [one for one in wheel.parts.queue.accepted() if one.id == "c0"]
    signal = wheel.parts.store.find(one.signals[0])
    assert signal is not None
    wheel.parts.queue.forget([signal.id])
    wheel.parts.store.delete(id=signal.id, why="asked")
    return signal.prompt


def test_the_next_round_takes_the_data_anew_without_what_was_erased_though_nothing_fails(wheel: Flywheel) -> None:
    taken(wheel)
    wheel._save(State(1, "done"))
    wheel.cfg.flywheel.decide.least = 1000  # nothing is acted on
    prompt, before = forget_first(wheel), version(wheel.accepted)
    state = wheel.open()
    assert (state.number, state.phase, state.overrides) == (2, "ready", {"accepted.path": str(wheel.accepted)})
    assert published(wheel) == ["c1", "c2"] and state.provenance["data"] == version(wheel.accepted) != before
    assert not [path for path in wheel.home.rglob("*") if path.is_file() and prompt.encode() in path.read_bytes()]
    wheel._save(State(2, "done"))
    assert wheel.open().phase == "nothing"


def test_with_nothing_left_the_next_round_trains_without_accepted_data(wheel: Flywheel) -> None:
    taken(wheel)
    wheel._save(State(1, "done"))
    wheel.parts.queue.forget(wheel.parts.store.ids_of("somebody"))
    wheel.parts.store.delete(subject="somebody", why="asked")
    state = wheel.open()
    assert (state.phase, state.overrides, published(wheel)) == ("ready", {"accepted.path": ""}, [])


def test_a_decision_that_is_taken_back_and_made_again_is_taken_by_the_next_round(wheel: Flywheel) -> None:
    queue = with_queue(wheel, "person")
    wheel.parts.store.add(missing(wheel.parts.store, 8))
    wheel.open()
    for name in ("c0", "c1", "c2"):
        queue.decide(name, "accept", by="me")
    wheel.cfg.accepted.path = wheel.open().overrides["accepted.path"]
    wheel._save(State(1, "done"))
    wheel.cfg.flywheel.decide.least = 1000
    queue.undo("me")
    queue.decide("c2", "edit", "another prompt", by="me")
    assert wheel.open().phase == "ready" and "another prompt" in [text for group in Sidecar.load(wheel.accepted).table["captions"] for text in group]


def test_a_ready_round_is_trained_without_what_was_erased_since(wheel: Flywheel) -> None:
    taken(wheel)
    forget_first(wheel)
    state = wheel.open()
    assert (state.number, state.phase) == (1, "ready") and published(wheel) == ["c1", "c2"]
    assert state.overrides["accepted.path"] == str(wheel.accepted) and wheel.last() == state


def test_data_that_no_training_reads_any_more_are_cleaned_and_do_not_join_it_again(wheel: Flywheel) -> None:
    taken(wheel)
    wheel._save(State(1, "done"))
    wheel.cfg.accepted.path, wheel.cfg.flywheel.decide.least = "", 1000
    forget_first(wheel)
    assert wheel.open().phase == "nothing" and published(wheel) == ["c1", "c2"]


def test_what_was_deleted_while_candidates_were_made_is_not_queued(wheel: Flywheel) -> None:
    queue = with_queue(wheel, "person")
    wheel.parts.store.add(missing(wheel.parts.store, 8))
    augment = wheel.parts.augment

    def slow(decisions: Sequence[Decision], cases: Mapping[str, Case], most: int) -> Sequence[Candidate]:
        made = augment(decisions, cases, most)
        wheel.parts.store.delete(id=made[0].signals[0], why="asked meanwhile")
        return made

    wheel.parts.augment = slow
    assert wheel.open().candidates == 2 and [one.id for one in queue.pending()] == ["c1", "c2"]


def test_without_an_evaluation_there_is_no_round(wheel: Flywheel) -> None:
    (wheel.runs / "evaluate" / "results.json").unlink()
    with pytest.raises(QI2Error, match="make run"):
        wheel.open()


def test_what_was_tried_is_counted_by_kind() -> None:
    assert prompts_by_kind(json.loads(results(True)))["t2i", "one"] == 2
