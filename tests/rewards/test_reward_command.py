"""qi2 reward score and evaluate, on models that are not trained."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from qi2.cli import main
from qi2.rewards.config import DIMENSIONS, RewardArchitecture
from qi2.rewards.heads import RewardModel
from qi2.rewards.pairs import WorldPairs
from qi2.rewards.score import RewardModels


@pytest.fixture
def run_folder(encoder: Any, small_world: Any, tmp_path: Path) -> Path:
    """As a run leaves it: rewards and standins/vlm."""
    torch.manual_seed(0)
    for name in DIMENSIONS:
        model = RewardModel(RewardArchitecture(name, 64, 32, 1, 2, mean=0.5, temperature=2.0, tie=0.3), encoder.model.model.visual, encoder.width)
        torch.nn.init.normal_(model.head.score.weight)
        model.save(tmp_path / "run" / "rewards" / name)
    (tmp_path / "run" / "standins").mkdir()
    (tmp_path / "run" / "standins" / "vlm").symlink_to(small_world.vlm)
    return tmp_path / "run"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures and the picture that they could be edits of."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.png", "below/c.png")):
        WorldPairs("aesthetic", "train", 64, 0).get(i).pictures[0].save(folder / name)
    WorldPairs("aesthetic", "train", 64, 0).get(9).pictures[0].save(tmp_path / "source.png")
    return folder


def scored(run_folder: Path, *arguments: Any) -> list[dict[str, Any]]:
    out = run_folder.parent / "scores.json"
    assert main(["reward", "score", *map(str, arguments), "--model", str(run_folder), "--out", str(out)]) == 0
    return json.loads(out.read_text())  # type: ignore[no-any-return]


def test_a_folder_is_scored_as_the_models_score_it(run_folder: Path, pictures: Path) -> None:
    from PIL import Image

    rows = scored(run_folder, pictures, "--prompt", "a red circle")
    assert [Path(row["image"]).name for row in rows] == ["a.png", "b.png", "c.png"]
    assert set(rows[0]) == {"image", "prompt", "aesthetic", "alignment", "portrait"}
    models = RewardModels.load(run_folder / "rewards", run_folder / "standins" / "vlm", ["alignment"])
    expected = models.score("alignment", ["a red circle"], [Image.open(pictures / "b.png")]).item()
    assert rows[1]["alignment"] == pytest.approx(expected, abs=1e-5)


def test_without_a_prompt_only_what_needs_none_is_scored(run_folder: Path, pictures: Path) -> None:
    (pictures / "a.txt").write_text("a blue star\nanother caption")
    rows = scored(run_folder, pictures)
    assert [row["prompt"] for row in rows] == ["a blue star", None, None]
    assert [row["alignment"] is None for row in rows] == [False, True, True]
    assert all(row["aesthetic"] is not None for row in rows)


def test_edits_come_with_their_sources(run_folder: Path, pictures: Path) -> None:
    rows = scored(run_folder, pictures, "--prompt", "make it red", "--source", run_folder.parent / "source.png")
    assert set(rows[0]) == {"image", "prompt", "aesthetic", "portrait", "instruction", "consistency"}
    table = run_folder.parent / "prompts.csv"
    table.write_text("image,prompt,source\npictures/a.png,a star,\nb.png,make it red,source.png\nc.png,a face,\n")
    rows = scored(run_folder, pictures, "--prompts", table)
    assert [row["instruction"] is None for row in rows] == [True, False, True]
    assert [row["alignment"] is None for row in rows] == [False, True, False]


def test_a_csv_has_a_line_per_image(run_folder: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run_folder.parent / "scores.csv"
    assert main(["reward", "score", str(pictures / "a.png"), "--rewards", "portrait", "--model", str(run_folder), "--out", str(out)]) == 0
    with open(out, newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert float(row["portrait"]) == pytest.approx(float(capsys.readouterr().out.split("mean ")[1].split()[0]), abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.png"], "gone.png does not exist"),
        (["PICTURES", "--rewards", "beauty"], "no reward 'beauty'; choose from aesthetic"),
        (["PICTURES", "--rewards", "alignment"], "cannot judge .*a.png: it has no prompt"),
        (["PICTURES", "--prompt", "x", "--rewards", "consistency"], "cannot judge .*a.png: it is no edit"),
    ],
)
def test_what_is_missing_is_named(run_folder: Path, pictures: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    given = [str(pictures) if word == "PICTURES" else word for word in arguments]
    assert main(["reward", "score", *given, "--model", str(run_folder)]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_a_table_of_judgements_gives_figures_with_intervals(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for i in range(24):
        for k, picture in enumerate(WorldPairs("aesthetic", "heldout", 64, 0).get(i).pictures):
            picture.save(tmp_path / f"{i}-{k}.png")
        lines.append({"prompt": f"p {i // 2}", "first": f"{i}-0.png", "second": f"{i}-1.png", "aesthetic": 0 if i < 4 else 1, "portrait": "B"})
    (tmp_path / "table.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "figures.json"
    assert main(["reward", "evaluate", str(tmp_path / "table.jsonl"), "--model", str(run_folder), "--out", str(out), "--resamples", "50"]) == 0
    figures = json.loads(out.read_text())
    assert set(figures) == {"aesthetic", "portrait"}
    found = figures["aesthetic"]
    assert (found["pairs"]["value"], found["ties"]["value"], found["accuracy"]["n"]) == (24, 4, 12)
    assert all(found[name]["low"] <= found[name]["value"] <= found[name]["high"] for name in ("accuracy", "accuracy_with_ties"))
    assert "aesthetic" in capsys.readouterr().out
    models = RewardModels.load(run_folder / "rewards", run_folder / "standins" / "vlm", ["aesthetic"])
    pairs = [WorldPairs("aesthetic", "heldout", 64, 0).get(i).pictures for i in range(4, 24)]
    scores = models.score("aesthetic", [""] * 40, [picture for pair in pairs for picture in pair])
    assert found["accuracy"]["value"] == pytest.approx((scores[::2] > scores[1::2]).float().mean().item())
