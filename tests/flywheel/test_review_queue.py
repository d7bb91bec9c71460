"""Decisions are durable, only added, and say by whom and in which mode; samples and waivers decide nothing in silence."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from qi2.core.errors import QI2Error
from qi2.flywheel.review.candidate import Candidate
from qi2.flywheel.review.queue import AlreadyDecided, Mode, ReviewQueue, queue_of
from tests.flywheel.serving import blank, candidates, filled

DECIDER = """
import sys
from pathlib import Path
from qi2.flywheel.review.queue import ReviewQueue
queue = ReviewQueue(Path(sys.argv[1]))
for one in queue.pending():
    queue.decide(one.id, "accept", by="anna")
    print(one.id, flush=True)
"""


def test_accepted_edited_and_rejected_candidates_come_out_as_decided(tmp_path: Path) -> None:
    queue = filled(tmp_path, 4)
    queue.decide("c0", "accept", by="anna")
    queue.decide("c1", "edit", "a better prompt", by="anna", why="clearer")
    queue.decide("c2", "reject", by="anna")
    first, second = queue.accepted()
    assert first.id == "c0" and first.origin["review"]["by"] == "anna" and first.origin["review"]["mode"] == "person"
    assert second.prompt == "a better prompt" and second.origin["review"]["original"] != second.prompt and second.origin["review"]["why"] == "clearer"
    assert [one.id for one in queue.pending()] == ["c3"]
    assert queue.progress() == {"total": 4, "left": 1, "accepted": 1, "edited": 1, "rejected": 1, "mode": "person"}
    assert ReviewQueue(tmp_path).accepted() == queue.accepted()


def test_putting_again_adds_nothing(tmp_path: Path) -> None:
    queue = filled(tmp_path)
    assert queue.put(candidates(queue, 5)) == 0 and queue.progress()["total"] == 5


def test_a_second_decision_is_refused_until_the_first_is_undone(tmp_path: Path) -> None:
    queue = filled(tmp_path)
    queue.decide("c0", "accept", by="anna")
    with pytest.raises(AlreadyDecided, match="anna"):
        queue.decide("c0", "reject", by="bert")
    assert queue.undo("bert") == "" and queue.undo("anna") == "c0" and queue.undo("anna") == ""
    queue.decide("c0", "reject", by="bert")
    assert [(row["verdict"], row["by"]) for row in queue.decisions()] == [("accept", "anna"), ("undo", "anna"), ("reject", "bert")]


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        ({"id": "nosuch", "verdict": "accept"}, "no candidate"),
        ({"verdict": "maybe"}, "accept, edit, reject"),
        ({"verdict": "undo"}, "accept, edit, reject"),
        ({"verdict": "edit", "prompt": " "}, "prompt is a text"),
        ({"verdict": "accept", "prompt": "x"}, "comes with the verdict edit"),
        ({"verdict": "accept", "by": ""}, "says who"),
        ({"verdict": "accept", "by": "nobody"}, "a person"),
    ],
)
def test_a_wrong_decision_is_refused(tmp_path: Path, decision: dict[str, str], told: str) -> None:
    queue = filled(tmp_path)
    with pytest.raises(QI2Error, match=told):
        queue.decide(**({"id": "c0", "by": "anna"} | decision))
    assert queue.decisions() == []


def test_a_waiver_accepts_everything_and_stands_with_every_decision(tmp_path: Path) -> None:
    queue = filled(tmp_path, 3)
    queue.decide("c1", "reject", by="anna")
    queue.set_mode("waived", by="chief")
    queue.put(candidates(queue, 5), "tiny/001")
    assert queue.pending() == [] and [one.id for one in queue.accepted()] == ["c0", "c2", "c3", "c4"]
    assert {one.origin["review"]["mode"] for one in queue.accepted()} == {"waived"} and "waived by chief" in queue.accepted()[0].origin["review"]["why"]
    assert [mode["by"] for mode in queue.modes()] == ["chief"]


def test_a_good_sample_accepts_the_rest_and_says_so(tmp_path: Path) -> None:
    queue = filled(tmp_path, 30)
    queue.set_mode("sampled", by="chief", share=0.3, threshold=0.8)
    sample = [one.id for one in queue.pending()]
    assert 0 < len(sample) < 30 and sample == [one.id for one in queue.pending()]
    for name in sample[:-1]:
        queue.decide(name, "accept", by="anna")
    assert len(queue.accepted()) == len(sample) - 1  # the rest waits for the whole sample
    queue.decide(sample[-1], "accept", by="anna")
    found = {one.id: one.origin["review"] for one in queue.accepted()}
    assert len(found) == 30 and queue.pending() == []
    assert all((review["by"], review["mode"]) == (("anna" if name in sample else "the sample"), "sampled") for name, review in found.items())
    assert f"sample of {len(sample)}" in next(review["why"] for review in found.values() if review["by"] == "the sample")


def test_a_bad_sample_leaves_the_rest_to_people(tmp_path: Path) -> None:
    queue = filled(tmp_path, 30)
    queue.set_mode("sampled", by="chief", share=0.3, threshold=0.8)
    sample = [one.id for one in queue.pending()]
    for name in sample:
        queue.decide(name, "reject", by="anna")
    assert queue.accepted() == [] and len(queue.pending()) == 30 - len(sample)


def test_what_a_sample_decided_is_taken_back_with_it(tmp_path: Path) -> None:
    queue = filled(tmp_path, 10)
    queue.set_mode("sampled", by="chief", share=0.01, threshold=1.0)
    (only,) = queue.pending()  # a share of next to nothing is still one
    queue.decide(only.id, "accept", by="anna")
    assert len(queue.accepted()) == 10
    assert queue.undo("anna") == only.id and queue.accepted() == [] and [one.id for one in queue.pending()] == [only.id]
    queue.decide(only.id, "reject", by="anna")
    assert len(queue.pending()) == 9


def test_the_sample_depends_on_its_seed_alone(tmp_path: Path) -> None:
    queues = [filled(tmp_path / name, 30) for name in ("a", "b", "c")]
    for queue, seed in zip(queues, (1, 1, 2), strict=True):
        queue.set_mode("sampled", by="chief", share=0.3, seed=seed)
    names = [[one.id for one in queue.pending()] for queue in queues]
    assert names[0] == names[1] != names[2]


def batches(queue: ReviewQueue, n: int) -> tuple[list[Candidate], list[Candidate]]:
    """``n`` candidates of each of two rounds."""
    made = candidates(queue, 2 * n)
    return made[:n], made[n:]


def test_a_waived_round_waives_no_later_one(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path)
    first, second = batches(queue, 3)
    queue.put(first, "tiny/001", Mode("waived", "chief"))
    queue.put(second, "tiny/002", Mode("person", "chief"))
    assert [one.id for one in queue.accepted()] == ["c0", "c1", "c2"] and [one.id for one in queue.pending()] == ["c3", "c4", "c5"]
    assert queue.batch("c0") == {"batch": "tiny/001", "mode": "waived"} and queue.batch("c3") == {"batch": "tiny/002", "mode": "person"}
    assert queue.progress()["mode"] == "person" and queue.batch("nosuch") == {}


def test_a_new_batch_without_a_mode_waits_for_people(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path)
    first, second = batches(queue, 2)
    queue.put(first, "one", Mode("waived", "chief"))
    assert queue.put(second, "two") == 2 and len(queue.pending()) == 2


def test_a_waiver_by_command_concerns_what_is_undecided_then_and_no_later_round(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path)
    first, second = batches(queue, 3)
    assert queue.set_mode("waived", by="chief") == [] and queue.modes() == []
    queue.put(first, "one", Mode("person", "round"))
    assert queue.set_mode("waived", by="chief") == ["one"] and queue.pending() == []
    queue.put(second, "two", Mode("person", "round"))
    assert len(queue.pending()) == 3 and [(row["batch"], row["by"]) for row in queue.modes()] == [("one", "round"), ("one", "chief"), ("two", "round")]


def test_a_sample_is_of_its_own_round(tmp_path: Path) -> None:
    queue, mode = ReviewQueue(tmp_path), Mode("sampled", "round", share=0.1, threshold=0.95)
    first, second = batches(queue, 30)
    queue.put(first, "one", mode)
    for one in queue.pending():
        queue.decide(one.id, "accept", by="anna")
    assert len(queue.accepted()) == 30
    queue.put(second, "two", mode)
    sample = [one.id for one in queue.pending()]
    assert 0 < len(sample) < 30 and {queue.batch(id)["batch"] for id in sample} == {"two"}
    queue.decide(sample[0], "reject", by="anna")
    for id in sample[1:]:
        queue.decide(id, "accept", by="anna")
    assert not {one.id for one in queue.accepted()} & (set(queue.waiting()) | {sample[0]}) and len(queue.pending()) == 30 - len(sample)


def test_only_what_people_decided_counts_in_a_sample(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path)
    first, second = batches(queue, 30)
    queue.put(first, "one", Mode("waived", "round"))
    queue.put(second, "one", Mode("sampled", "round", share=0.1, threshold=0.5))
    sample = [one.id for one in queue.pending()]
    assert 0 < len(sample) < 30 and set(sample) <= {one.id for one in second}
    for id in sample:
        queue.decide(id, "reject", by="anna")
    assert len(queue.accepted()) == 30 and len(queue.pending()) == 30 - len(sample)


def test_an_undone_decision_takes_back_the_sample_of_its_own_round_alone(tmp_path: Path) -> None:
    queue, mode = ReviewQueue(tmp_path), Mode("sampled", "round", share=0.01, threshold=1.0)
    for name, some in zip(("one", "two"), batches(queue, 5), strict=True):
        queue.put(some, name, mode)
        (only,) = queue.pending()
        queue.decide(only.id, "accept", by="anna")
    assert len(queue.accepted()) == 10 and queue.undo("anna") == only.id
    assert [one.id for one in queue.accepted()] == [f"c{k}" for k in range(5)]


def test_a_sample_goes_with_a_decision_that_was_made_before_it_was_drawn(tmp_path: Path) -> None:
    queue = filled(tmp_path, 5)
    for k in range(3):
        queue.decide(f"c{k}", "accept", by="anna")
    queue.set_mode("sampled", by="chief", share=1e-9, threshold=1.0)  # one of all five
    for one in queue.pending():
        queue.decide(one.id, "accept", by="bert")
    assert "the sample" in {one.origin["review"]["by"] for one in queue.accepted()} and queue.pending() == []
    assert queue.undo("anna") == "c2" and {one.origin["review"]["by"] for one in queue.accepted()} <= {"anna", "bert"}


def before_batches(folder: Path) -> None:
    """Make a queue what it was before candidates came in batches."""
    database = sqlite3.connect(folder / "queue.sqlite")
    for table in ("candidates", "modes"):
        database.execute(f"ALTER TABLE {table} DROP COLUMN batch")
    database.commit()
    database.close()


def test_a_queue_of_the_time_before_batches_keeps_every_decision_and_waives_nothing_new(tmp_path: Path) -> None:
    queue = filled(tmp_path, 4)
    queue.decide("c0", "edit", "a better prompt", by="anna", why="clearer")
    queue.decide("c1", "reject", by="anna")
    accepted, decisions = queue.accepted(), queue.decisions()
    queue.close()
    before_batches(tmp_path)
    queue = ReviewQueue(tmp_path)
    assert queue.accepted() == accepted and queue.decisions() == decisions and [one.id for one in queue.pending()] == ["c2", "c3"]
    queue.set_mode("waived", by="chief")
    queue.put(candidates(queue, 6)[4:], "tiny/002", Mode("person", "round"))
    assert [one.id for one in queue.pending()] == ["c4", "c5"]


def test_scales_have_queues_of_their_own_and_a_shared_one_is_given_to_its_scale_by_a_move(tmp_path: Path) -> None:
    old = filled(tmp_path / "queue", 2)
    old.decide("c0", "accept", by="anna")
    old.close()
    with pytest.raises(QI2Error, match=f"mv {tmp_path / 'queue'} {tmp_path / 'tiny' / 'queue'}"):
        queue_of(tmp_path, "tiny")
    assert not (tmp_path / "tiny" / "queue").exists()
    (tmp_path / "tiny").mkdir()
    (tmp_path / "queue").rename(tmp_path / "tiny" / "queue")
    assert [one.id for one in queue_of(tmp_path, "tiny").accepted()] == ["c0"]
    smoke = queue_of(tmp_path, "smoke")
    smoke.put(candidates(smoke, 2), "smoke/001", Mode("waived", "round"))
    assert len(smoke.accepted()) == 2 and [one.id for one in queue_of(tmp_path, "tiny").pending()] == ["c1"]


def test_forgetting_a_signal_erases_what_was_made_for_it(tmp_path: Path) -> None:
    queue = filled(tmp_path, 3, "")
    secret = queue.keep(blank())
    own = Candidate("mine", "t2i", "a wine-red xylophone", secret, (), {"signals": ["f" * 64], "how": "x"})
    queue.put([own])
    queue.decide("mine", "edit", "her violet xylophone", by="anna")
    bytes_of = lambda: b"".join(path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file())  # noqa: E731
    assert b"xylophone" in bytes_of()
    assert queue.forget(["f" * 64, "e" * 64]) == 1
    assert b"xylophone" not in bytes_of() and b"f" * 64 not in bytes_of() and secret.encode() not in bytes_of() and not queue.pictures.has(secret)
    again = Candidate("mine", "t2i", "a wine-red xylophone", queue.keep(blank()), (), {"signals": ["f" * 64]})
    assert queue.put([again]) == 0 and queue.accepted() == [] and len(queue.pending()) == 3


def test_no_acknowledged_decision_is_lost_in_a_kill(tmp_path: Path) -> None:
    filled(tmp_path, 40).close()
    process = subprocess.Popen([sys.executable, "-c", DECIDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "src:."})
    assert process.stdout is not None
    said = [process.stdout.readline().strip() for _ in range(12)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read().split()
    process.wait()
    assert {one.id for one in ReviewQueue(tmp_path).accepted()} >= set(said)


def test_nothing_changes_behind_the_queues_back(tmp_path: Path) -> None:
    queue = filled(tmp_path, 2)
    queue.decide("c0", "accept", by="anna")
    direct = sqlite3.connect(tmp_path / "queue.sqlite")
    for statement in ("DELETE FROM decisions", "UPDATE decisions SET by = 'x'", "DELETE FROM candidates", "UPDATE candidates SET body = '{}'"):
        with pytest.raises(sqlite3.Error):
            direct.execute(statement)
    assert len(queue.accepted()) == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"task": "video"}, "task of"),
        ({"target": "../x"}, "sha256"),
        ({"prompt": ""}, "prompt"),
        ({"id": ""}, "id of"),
        ({"origin": {"x": float("nan")}}, "origin"),
    ],
)
def test_a_wrong_candidate_is_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(QI2Error, match=told):
        Candidate(**({"id": "a", "task": "t2i", "prompt": "p", "target": "0" * 64} | wrong))  # type: ignore[arg-type]


def test_a_candidate_whose_picture_is_missing_is_not_queued(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="keep it first"):
        ReviewQueue(tmp_path).put([Candidate("a", "t2i", "p", "0" * 64)])
