"""Who takes part, which pairs are drawn, and what judges and the leaderboard make of them."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from qi2.arena.board import export, leaderboard, lines
from qi2.arena.entrants import Field, Task, load
from qi2.arena.judge import ScoreJudge, both_orders, checker, judge_pairs
from qi2.arena.pairs import Draw, all_pairs
from qi2.arena.votes import PEOPLE, Votes
from qi2.core.errors import QI2Error
from tests.arena.conftest import write_evaluation


def folder_with(path: Path, rows: list[object]) -> Path:
    path.mkdir(parents=True)
    for name in ("a.png", "in.png"):
        Image.new("RGB", (8, 8), "red").save(path / name)
    (path / "prompts.jsonl").write_text("\n".join(json.dumps(row) if not isinstance(row, str) else row for row in rows))
    return path


def test_models_of_an_evaluation_meet_on_their_prompts_and_edits(evaluation: Path) -> None:
    field = load([str(evaluation)])
    assert sorted(field.entrants) == ["modelbad", "modelfair", "modelgood"] and len(field.tasks) == 12
    edits = [task for task in field.tasks.values() if task.suite == "edit"]
    assert len(edits) == 6 and all(task.sources for task in edits)
    assert Counter(pair.task.suite for pair in all_pairs(field)) == {"t2i": 18, "edit": 18}


def test_other_systems_pictures_meet_on_the_same_prompts(evaluation: Path, tmp_path: Path) -> None:
    """By names like the evaluation's samples, and by a table of prompts."""
    task = next(iter(load([str(evaluation)]).tasks.values()))
    shutil.copytree(evaluation / "samples" / "modelgood", tmp_path / "alike")
    for path in (tmp_path / "alike").glob("*.png"):
        Image.open(path).convert("L").save(path.with_suffix(".jpg"))
        path.unlink()
    table = folder_with(tmp_path / "table", [{"image": "a.png", "prompt": task.prompt, "category": "one"}, ""])
    field = load([str(tmp_path / "alike"), f"other={table}", f"v1={evaluation}"])
    assert {"alike", "other", "v1/modelgood"} < field.entrants.keys() and len(field.entrants["alike"].pictures) == 12
    assert len(field.tasks) == 12 and list(field.entrants["other"].pictures) == [task.id]


def test_the_same_pictures_under_two_names_take_part_once(evaluation: Path) -> None:
    field = load([str(evaluation), f"again={evaluation}"])
    assert len(field.entrants) == 3 and field.dropped == [f"again/{name} shows the same pictures as {name}" for name in ("modelgood", "modelfair", "modelbad")]


def test_pictures_with_the_same_bytes_never_meet(evaluation: Path, tmp_path: Path) -> None:
    shutil.copytree(evaluation / "samples" / "modelgood", tmp_path / "twin")
    shutil.copy(evaluation / "samples" / "modelbad" / "t2i-0.png", tmp_path / "twin" / "t2i-0.png")
    met = [(pair.left.name, pair.right.name) for pair in all_pairs(load([str(evaluation), str(tmp_path / "twin")]))]
    assert met.count(("modelgood", "twin")) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "prompts.jsonl line 1"),
        ({"image": "a.png"}, "'prompt'"),
        ({"image": "../evaluate/x.png", "prompt": "p"}, "lies outside"),
        ({"image": "/etc/hostname", "prompt": "p"}, "lies outside"),
        ({"image": "gone.png", "prompt": "p"}, "gone.png"),
        ({"image": "prompts.jsonl", "prompt": "p"}, "cannot be used"),
        ({"image": "a.png", "prompt": 3}, "line 1"),
        ({"image": "a.png", "prompt": "p", "sources": "in.png"}, "sources is a list"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match=message):
        load([str(folder_with(tmp_path / "other", [row]))])


def test_an_evaluation_that_was_changed_is_refused(evaluation: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(evaluation, tmp_path / "evaluate"))
    Image.new("RGB", (64, 64)).save(copy / "samples" / "modelgood" / "t2i-0.png")
    with pytest.raises(QI2Error, match=r"t2i-0\.png is missing or differs"):
        load([str(copy)])


def test_what_cannot_meet_is_said(evaluation: Path, tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="no two have a picture of the same prompt"):
        load([str(folder_with(tmp_path / "alone", [{"image": "a.png", "prompt": "p"}]))])
    with pytest.raises(QI2Error, match="no entrant is called nobody"):
        load([str(evaluation)], only=["modelgood", "nobody"])
    with pytest.raises(QI2Error, match="is no folder"):
        load([str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(QI2Error, match="no picture that is named like"):
        load([str(evaluation), str(tmp_path / "empty")])
    for content, message in (("{", "is damaged"), ('{"a": 1}', "is not an evaluation's"), ("[]", "is damaged")):
        (tmp_path / "empty" / "results.json").write_text(content)
        with pytest.raises(QI2Error, match=message):
            load([str(tmp_path / "empty")])


def test_a_voter_sees_every_pair_once_and_then_none(evaluation: Path) -> None:
    field = load([str(evaluation)])
    draw, done = Draw(field), dict[str, str]()
    while pair := draw.pair("v", done):
        assert pair.id not in done
        done[pair.id] = "left"
    assert done.keys() == {pair.id for pair in all_pairs(field)}


def test_a_draw_depends_on_seed_voter_and_votes_alone(evaluation: Path) -> None:
    field = load([str(evaluation)])
    assert Draw(field).pair("v", {}) == Draw(field).pair("v", {})
    first = [Draw(field).pair(f"v{i}", {}) for i in range(200)]
    assert 70 < sum(pair.left.name < pair.right.name for pair in first) < 130  # sides are a coin's toss
    assert len({pair.id for pair in first}) == 36 and 70 < sum(pair.task.suite == "edit" for pair in first) < 130


def test_uncertain_entrants_meet_more_often_on_prompts_with_fewer_votes(evaluation: Path, tmp_path: Path) -> None:
    """A pair that has been voted on 60 times is drawn less than two that have not."""
    field = load([str(evaluation)])
    votes, known = Votes(tmp_path / "v.sqlite"), {"modelgood", "modelbad"}
    decided = [pair for pair in all_pairs(field, ["t2i"]) if {pair.left.name, pair.right.name} == known]
    for voter in range(10):
        for pair in decided:
            votes.add(pair.vote(str(voter), "left" if voter % 2 else "right", PEOPLE))
    draw = Draw(field)
    draw.update(list(votes.rows()))
    drawn = [draw.pair(f"w{i}", {}) for i in range(300)]
    t2i = [pair for pair in drawn if pair.task.suite == "t2i"]
    assert sum({pair.left.name, pair.right.name} == known for pair in t2i) < 0.05 * len(t2i)
    votes.add(t2i[0].vote("x", "tie", PEOPLE))
    draw.update(list(votes.rows()))
    assert t2i[0].id not in {pair.id for i in range(100) if (pair := draw.pair(f"x{i}", {}))}


def test_judges_are_asked_in_both_orders_and_disagreement_is_a_tie(evaluation: Path) -> None:
    pair = next(all_pairs(load([str(evaluation)])))
    pictures = [Image.new("RGB", (4, 4), color) for color in ("white", "black")]

    def brighter(task: Task, left: Image.Image, right: Image.Image, sources: Sequence[Image.Image]) -> str:
        return "left" if left.getpixel((0, 0)) > right.getpixel((0, 0)) else "right"

    def biased(task: Task, left: Image.Image, right: Image.Image, sources: Sequence[Image.Image]) -> str:
        return "left"

    assert both_orders(brighter, pair.task, *pictures, []) == ("left", True)
    assert both_orders(brighter, pair.task, *pictures[::-1], []) == ("right", True)
    assert both_orders(biased, pair.task, *pictures, []) == ("tie", False)
    with pytest.raises(QI2Error, match="answered 'A'"):
        both_orders(lambda *_: "A", pair.task, *pictures, [])


def test_a_score_within_the_margin_is_a_tie() -> None:
    task, pictures = Task("t2i", "one", "p"), [Image.new("RGB", (1, 1), (value, 0, 0)) for value in (10, 12)]

    def red(task: Task, picture: Image.Image, sources: Sequence[Image.Image]) -> float:
        return float(picture.getpixel((0, 0))[0])

    assert ScoreJudge(red, margin=2)(task, *pictures, []) == "tie" and ScoreJudge(red, margin=1.9)(task, *pictures, []) == "right"


def test_the_exact_checker_ranks_models_by_truth_and_goes_on_where_it_was(evaluation: Path, tmp_path: Path) -> None:
    field, votes = load([str(evaluation)]), Votes(tmp_path / "v.sqlite")
    assert judge_pairs(field, checker(evaluation), "checker", votes, limit=10).asked == 10
    tally = judge_pairs(field, checker(evaluation), "checker", votes)
    assert tally.asked == 26 and tally.agreed == 26 and votes.count() == 36
    assert judge_pairs(field, checker(evaluation), "checker", votes).asked == 0
    board = leaderboard(field, list(votes.rows()), "checker")
    for suite in ("t2i", "edit"):
        assert [row.entrant for row in board.boards[suite].rows] == ["modelgood", "modelfair", "modelbad"]
        assert [row.votes for row in board.boards[suite].rows] == [12, 12, 12]
    assert leaderboard(field, list(votes.rows())).boards == {}  # a judge's votes are not people's
    with pytest.raises(QI2Error, match="cannot be called people"):
        judge_pairs(field, checker(evaluation), PEOPLE, votes)


def test_the_checker_refuses_a_prompt_without_truth(evaluation: Path) -> None:
    with pytest.raises(QI2Error, match="no exact truth is known of 'a cat'"):
        checker(evaluation).score(Task("t2i", "cat", "a cat"), Image.new("RGB", (64, 64)), [])


def vote_all(field: Field, votes: Votes, suite: str = "t2i") -> int:
    pairs = list(all_pairs(field, [suite]))
    for i, pair in enumerate(pairs):
        votes.add(pair.vote("v", ("left", "right", "tie", "skip")[i % 4], PEOPLE))
    return len(pairs)


def test_the_leaderboard_counts_by_category_and_says_what_does_not_count(evaluation: Path, tmp_path: Path) -> None:
    field, votes = load([str(evaluation)]), Votes(tmp_path / "v.sqlite")
    assert vote_all(field, votes) == 18
    board = leaderboard(field, list(votes.rows()))
    assert board.boards["t2i"].votes == 14 and board.skipped == 4 and board.stale == 0
    assert sum(ratings.votes for name, ratings in board.boards.items() if name.startswith("t2i/")) == 14
    fewer = load([str(evaluation)], only=["modelgood", "modelbad"])
    assert leaderboard(fewer, list(votes.rows())).stale == 14 - leaderboard(fewer, list(votes.rows())).boards["t2i"].votes > 0
    text = "\n".join(lines(board))
    assert "t2i: 14 votes on 6 prompts" in text and "fewer than 10 prompts" in text and "4 skipped" in text


def test_votes_on_pictures_that_changed_since_do_not_count(evaluation: Path, tmp_path: Path) -> None:
    field, votes = load([str(evaluation)]), Votes(tmp_path / "v.sqlite")
    vote_all(field, votes)
    trained_on = load([str(write_evaluation(tmp_path / "evaluate", {"modelgood": 0.0, "modelfair": 0.5, "modelbad": 0.0}))])
    board = leaderboard(trained_on, list(votes.rows()))
    assert {row.entrant for row in board.boards["t2i"].rows} == {"modelbad", "modelfair"}  # each vote on modelgood was on a picture that is gone
    assert board.stale + board.boards["t2i"].votes == 14


def test_preferences_are_what_reward_training_reads(evaluation: Path, tmp_path: Path) -> None:
    from qi2.rewards.config import RewardsConfig
    from qi2.rewards.table import open_square, read_table

    field, votes = load([str(evaluation)]), Votes(tmp_path / "v.sqlite")
    pairs = [*all_pairs(field, ["t2i"])][:4] + [*all_pairs(field, ["edit"])][:2]
    for pair, choice in zip(pairs, ("left", "right", "tie", "skip", "left", "right"), strict=True):
        votes.add(pair.vote("v", choice, PEOPLE))
    votes.add(pairs[0].vote("judge:checker", "right", "checker"))
    assert export(field, votes, tmp_path / "out") == {"votes": 7, "preferences": 4}
    rows = read_table(RewardsConfig(pairs=str(tmp_path / "out" / "preferences.jsonl")))
    assert [row.labels for row in rows] == [{"alignment": 1}] * 2 + [{"instruction": 1}] * 2
    assert rows[0].pictures[0] == str(pairs[0].pictures[0].path) and rows[1].pictures[0] == str(pairs[1].pictures[1].path)
    assert rows[2].sources == tuple(str(source.path) for source in pairs[4].task.sources)
    assert open_square(rows[0].pictures[0], Path(), 32, rows[0].name).size == (32, 32)
    stored = [json.loads(line) for line in (tmp_path / "out" / "votes.jsonl").read_text().splitlines()]
    assert stored[-1]["by"] == "checker" and stored[0]["created"].endswith("Z") and stored[0]["prompt"] == pairs[0].task.prompt
