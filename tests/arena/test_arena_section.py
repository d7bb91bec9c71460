"""The report's arena section: people and judges apart, and what stands in where nobody has voted."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from qi2.arena.entrants import load
from qi2.arena.pairs import all_pairs
from qi2.arena.section import section
from qi2.arena.votes import PEOPLE, Votes
from qi2.core.publish import MANIFEST, publish
from qi2.evaluation.run_folder import RunFolder
from tests.evaluation.conftest import make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_without_votes_the_checker_s_verdicts_are_a_board_that_says_so(run: Path, tmp_path: Path) -> None:
    anchor, title, html = section(RunFolder(run), tmp_path / "votes.sqlite")
    assert (anchor, title) == ("arena", "Arena")
    assert "no preference of anybody" in html and "pairs on 40 prompts" in html
    assert html.index("<td>RL</td>") < html.index("<td>base</td>")
    assert not (tmp_path / "votes.sqlite").exists()


def test_people_s_votes_take_the_checker_s_place_and_judges_stand_apart(run: Path, tmp_path: Path) -> None:
    votes, former = Votes(tmp_path / "votes.sqlite"), tmp_path / "former"
    (run / "evaluate").rename(former)
    with publish(run / "evaluate") as staging:
        shutil.copytree(former, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        for red, model in ((0, "sft"), (90, "rlhf")):  # pictures with the same bytes never meet
            for path in (staging / "samples" / model).glob("t2i-*.png"):
                Image.new("RGB", (64, 64), (red, 20, int(path.stem[-1]) * 30)).save(path)
    for pair in all_pairs(load([str(run)], ["sft", "rlhf"]), ["t2i"]):
        votes.add(pair.vote("someone", "left", PEOPLE))
        votes.add(pair.vote("judge:taste", "right", "taste"))
    html = section(RunFolder(run), tmp_path / "votes.sqlite")[2]
    assert "no preference of anybody" not in html
    people, judge = html[html.index("People</h3>") : html.index("Judge: taste")], html[html.index("Judge: taste") :]
    assert people.index("<td>RL</td>") < people.index("<td>SFT</td>")  # left is the first by name
    assert judge.index("<td>SFT</td>") < judge.index("<td>RL</td>")
    assert "4 votes on 4 prompts" in people and "the intervals are rough" in people


def test_a_run_without_evaluation_says_so(tmp_path: Path) -> None:
    assert "Not run." in section(RunFolder(tmp_path), tmp_path / "votes.sqlite")[2]
