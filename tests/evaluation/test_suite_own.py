"""A user's portraits become a suite: everyone alone and together, the pictures where they are, judged and compared under our formulas' names."""

import json
from pathlib import Path

import pytest
from PIL import Image

from qi2.cli import main
from qi2.core.errors import QI2Error
from qi2.evaluation.scorers.registry import open_scorer
from qi2.evaluation.suites.own import ALONE, THREE, TWO, identity_suites
from qi2.evaluation.suites.references.base import FileReference
from qi2.evaluation.suites.suite import load_suite
from tests.evaluation.vlm_server import serve


def folder_of(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (40 * number, 0, 0)).save(path)
    return folder


@pytest.mark.parametrize(("people", "pairs", "triples"), [(1, 0, 0), (2, 1, 0), (3, 3, 1), (5, 5, 5)])
def test_everyone_is_asked_for_alone_and_with_the_next_and_no_group_comes_twice(tmp_path: Path, people: int, pairs: int, triples: int) -> None:
    portraits = folder_of(tmp_path / "team", *(f"{name}.png" for name in "abcde"[:people]))
    suite, _ = identity_suites(portraits, tmp_path / "out")
    counts = [sum(len(row.references) == n for row in suite.rows) for n in (1, 2, 3)]
    assert counts == [people * len(ALONE), pairs * len(TWO), triples * len(THREE)]
    groups = {(row.prompt, frozenset(row.references)) for row in suite.rows}
    assert len(groups) == len(suite.rows)


def test_a_folder_in_the_folder_is_one_person_and_no_picture_is_copied(tmp_path: Path) -> None:
    portraits = folder_of(tmp_path / "Our Team", "ann/1.png", "ann/2.JPG", "ann/3.png", "ann/4.png", "bob.png", "notes/readme.txt.png")
    (portraits / "notes" / "readme.txt.png").unlink()
    judged, near = identity_suites(portraits, tmp_path / "out")
    assert (judged.name, near.name) == ("identity-our-team", "identity-our-team-similarity")
    assert [len(row.references) for row in judged.rows if row.category == "style"] == [3, 1]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".yaml", ".jsonl"}
    assert all(isinstance(one, FileReference) and one.path.resolve().is_relative_to(portraits.resolve()) for row in near.rows for one in row.references)
    assert judged.label("vlm") == "dreambench-protocol/vlm"
    Image.new("RGB", (16, 16), "white").save(portraits / "bob.png")
    assert load_suite(judged.path).hash != judged.hash


def test_the_command_makes_it_and_a_judge_sees_the_portrait_with_the_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    portraits = folder_of(tmp_path / "two", "a.png", "b.png")
    assert main(["evaluate", "import", "identity", str(portraits), "--out", str(tmp_path / "out")]) == 0
    assert "18 prompts, your pictures; evaluate with --suite" in capsys.readouterr().out
    suite = load_suite(tmp_path / "out" / "identity-two.yaml")
    with serve(lambda text, images: json.dumps({"preservation": len(images), "following": 4})) as server:
        answers = open_scorer(suite, f"{server.url}#vlm").answer([Image.new("RGB", (16, 16))], suite.rows[-1])
    assert answers == [{"scores": {"preservation": 3, "following": 4}}]
    assert "beyond doubt the same" in server.asked[0] and "preservation (0 to 4), following (0 to 4)" in server.asked[0]


def test_a_folder_without_portraits_says_what_to_put_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(QI2Error, match="holds no portraits; put one picture"):
        identity_suites(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(QI2Error, match="there is no folder"):
        identity_suites(tmp_path / "none", tmp_path / "out")
