"""``qi2 arena`` from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qi2.cli import main
from tests.evaluation.vlm_server import Reply, serve


def test_a_judge_votes_and_the_ranking_is_written(evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    votes = ["--votes", str(tmp_path / "votes" / "v.sqlite")]
    assert main(["arena", "judge", str(evaluation), *votes, "--judge", "checker"]) == 0
    assert "checker: 36 pairs, both orders agreed on 36" in capsys.readouterr().out
    assert main(["arena", "rank", str(evaluation), *votes, "--by", "checker", "--json", str(tmp_path / "out" / "board.json")]) == 0
    board = json.loads((tmp_path / "out" / "board.json").read_text())
    assert board["by"] == "checker" and [row["entrant"] for row in board["boards"]["edit"]["rows"]] == ["modelgood", "modelfair", "modelbad"]
    assert "edit: 18 votes on 6 prompts" in capsys.readouterr().out
    assert main(["arena", "rank", str(evaluation), *votes]) == 0
    assert "no vote counts yet" in capsys.readouterr().out


def test_votes_are_exported_for_the_flywheel(evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    votes = ["--votes", str(tmp_path / "v.sqlite")]
    assert main(["arena", "judge", str(evaluation), *votes, "--limit", "5"]) == 0
    assert main(["arena", "export", str(evaluation), *votes, "--out", str(tmp_path / "out")]) == 0
    assert "votes.jsonl: 5 rows" in capsys.readouterr().out and (tmp_path / "out" / "preferences.jsonl").read_text() == ""


def test_a_judge_without_what_it_needs_says_so(evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    votes = ["--votes", str(tmp_path / "v.sqlite")]
    assert main(["arena", "judge", str(evaluation), *votes, "--judge", "reward"]) == 1
    assert "--rewards runs/SCALE/rewards" in capsys.readouterr().err
    assert main(["arena", "judge", str(evaluation), *votes, "--judge", "vlm"]) == 1
    assert "URL#MODEL" in capsys.readouterr().err
    alone = evaluation / "samples" / "modelgood"
    assert main(["arena", "judge", str(alone), str(evaluation), *votes, "--limit", "1"]) == 0
    assert main(["arena", "judge", str(alone), *votes]) == 1
    assert "prompts.jsonl" in capsys.readouterr().err


def test_a_taken_port_is_said(evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["arena", "serve", str(evaluation), "--votes", str(tmp_path / "v.sqlite"), "--port", str(taken.getsockname()[1])]) == 1
    assert "choose another with --host and --port" in capsys.readouterr().err


def _brighter(text: str, pictures: list[Image.Image]) -> str:
    first, second = (float(np.asarray(picture.convert("RGB")).mean()) for picture in pictures[-2:])
    return "Tie." if first == second else "**First**" if first > second else "the second"


@pytest.mark.parametrize(
    ("reply", "agreed", "unread"),
    [(_brighter, 36, 0), (lambda text, pictures: "first", 0, 0), (lambda text, pictures: "first or second?", 36, 72), (lambda text, pictures: "", 36, 72)],
)
def test_a_served_model_judges_both_pictures_in_both_orders(
    evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], reply: Reply, agreed: int, unread: int
) -> None:
    with serve(reply) as server:
        votes = ["--votes", str(tmp_path / "v.sqlite")]
        assert main(["arena", "judge", str(evaluation), *votes, "--judge", "vlm", "--vlm", f"{server.url}#tiny", "--name", "bright"]) == 0
        said = capsys.readouterr().out
        assert f"bright: 36 pairs, both orders agreed on {agreed}" in said and (f"{unread} replies" in said) == (unread > 0)
        assert len(server.asked) == 72 and all("quoted as JSON" in text for text in server.asked)
