"""Lost votes become signals of the losing entrant; people's and judges' stay apart, and what may be trained on is not guessed."""

from pathlib import Path

from qi2.arena.entrants import load
from qi2.arena.pairs import all_pairs
from qi2.arena.votes import Votes
from qi2.data.world.scene import Scene
from qi2.flywheel.collect.evaluation import Evaluated
from qi2.flywheel.collect.votes import VoteSettings, arena_truths, lost_votes
from qi2.flywheel.store import SignalStore

ORDER = ["sft", "rlhf", "distill"]


def voted(evaluated: Path, path: Path, voters: list[str], by: str = "people", suite: str = "t2i") -> tuple[object, list[dict[str, object]]]:
    """Everybody prefers the better entrant of every pair."""
    arena, votes = load([str(evaluated / "evaluate")]), Votes(path)
    for voter in voters:
        for pair in all_pairs(arena, (suite,)):
            better = ORDER.index(pair.left.name) > ORDER.index(pair.right.name)
            votes.add(pair.vote(voter, "left" if better else "right", by))
    return arena, list(votes.rows())


def test_who_loses_on_a_prompt_has_a_signal_there(evaluated: Path, tmp_path: Path) -> None:
    arena, rows = voted(evaluated, tmp_path / "v.sqlite", ["a", "b"])
    store = SignalStore(tmp_path / "store")
    found = lost_votes(arena, rows, store, VoteSettings(), arena_truths(Evaluated.open(evaluated)))
    assert {signal.model for signal in found} == {"sft"}  # it lost everything; rlhf won as often as it lost
    for signal in found:
        assert signal.source == "votes" and signal.heldout and signal.subject == "" and signal.verdict["votes"]["people"]["score"] == 0
        assert Scene.from_json(signal.truth) and store.picture(signal.picture).size == (64, 64)
    assert [one.to_json() for one in lost_votes(arena, rows, store, VoteSettings(), arena_truths(Evaluated.open(evaluated)))] == [
        one.to_json() for one in found
    ]


def test_few_votes_are_no_signal_unless_the_rating_is_far_below(evaluated: Path, tmp_path: Path) -> None:
    arena, rows = voted(evaluated, tmp_path / "v.sqlite", ["a"])
    few = VoteSettings(least=99)
    assert lost_votes(arena, rows, SignalStore(tmp_path / "s"), VoteSettings(least=99, far=10_000)) == []
    assert all(signal.verdict["votes"]["people"]["behind"] >= 200 for signal in lost_votes(arena, rows, SignalStore(tmp_path / "s"), few))


def test_judges_votes_are_mined_and_never_count_as_peoples(evaluated: Path, tmp_path: Path) -> None:
    voted(evaluated, tmp_path / "v.sqlite", ["judge:checker"], "checker")
    arena, rows = voted(evaluated, tmp_path / "v.sqlite", ["judge:reward"], "reward")
    found = lost_votes(arena, rows, SignalStore(tmp_path / "s"), VoteSettings(least=2))
    assert found and {signal.source for signal in found} == {"mining"}
    assert all(set(signal.verdict["votes"]) == {"checker", "reward"} for signal in found)


def test_lost_edits_bring_their_sources(evaluated: Path, tmp_path: Path) -> None:
    arena, rows = voted(evaluated, tmp_path / "v.sqlite", ["a", "b"], suite="edit")
    store = SignalStore(tmp_path / "s")
    found = lost_votes(arena, rows, store, VoteSettings())
    assert found and all(signal.task == "ti2i" and signal.references and signal.kind.startswith("edit/") for signal in found) and store.add(found) == len(found)


def test_skips_ties_and_votes_on_pictures_that_changed_are_no_losses(evaluated: Path, tmp_path: Path) -> None:
    arena, votes = load([str(evaluated / "evaluate")]), Votes(tmp_path / "v.sqlite")
    for pair in all_pairs(arena, ("t2i",)):
        votes.add(pair.vote("a", "skip", "people"))
        votes.add(pair.vote("b", "tie", "people"))
    rows = list(votes.rows())
    assert lost_votes(arena, rows, SignalStore(tmp_path / "s"), VoteSettings(least=1)) == []
    stale = [{**row, "choice": "left", "left_sha256": "0" * 64} for row in rows]
    assert lost_votes(arena, stale, SignalStore(tmp_path / "s"), VoteSettings(least=1)) == []
