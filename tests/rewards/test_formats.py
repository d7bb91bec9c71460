"""Rows of the public data sets' formats, as judgements of ours."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from rewards_settings import small_config

from qi2.rewards.formats import FORMATS, TableRow, recognise
from qi2.rewards.table import read_table

EDIT = {
    "prompt": "Make the sandwich a hot dog.",
    "choice_dist": None,
    "confidence": None,
    "path_src": "source.png",
    "path1": "one.png",
    "path2": "two.png",
    "model1_dim1_score": 4,
    "model1_dim2_score": 2,
    "model1_overall_score": 6,
    "model2_dim1_score": 4,
    "model2_dim2_score": 3,
    "model2_overall_score": 7,
    "tie_case": False,
}


def read(folder: Path, line: dict[str, Any], **changes: Any) -> list[TableRow]:
    (folder / "table.json").write_text(json.dumps([line]))
    return read_table(small_config(pairs=str(folder / "table.json"), **changes))


def pairs(rows: list[TableRow], dimension: str = "alignment") -> list[tuple[Any, ...]]:
    return [(*row.pictures, row.labels[dimension]) for row in rows]


def test_every_format_is_known_by_its_own_keys() -> None:
    for kind, found in FORMATS.items():
        assert recognise(["prompt", *found.needs], "x") == kind


def test_editreward_judges_both_questions_by_its_scores(tmp_path: Path) -> None:
    (row,) = read(tmp_path, EDIT)
    assert row.labels == {"instruction": 0, "consistency": -1}
    assert (row.pictures, row.sources) == (("one.png", "two.png"), ("source.png",))


def test_the_overall_preference_counts_where_the_user_wants_it(tmp_path: Path) -> None:
    (row,) = read(tmp_path, EDIT, dimensions={"overall": "instruction", "dim1": "", "dim2": "consistency"})
    assert row.labels == {"instruction": 1, "consistency": -1}
    (tied,) = read(tmp_path, EDIT | {"tie_case": True}, dimensions={"overall": "instruction", "dim1": ""})
    assert tied.labels["instruction"] == 0


def test_hpdv3_prefers_the_first_unless_the_choices_are_even(tmp_path: Path) -> None:
    line = {"prompt": "a cat", "path1": "a.png", "path2": "b.png", "choice_dist": [9, 3], "confidence": 0.97}
    (row,) = read(tmp_path, line)
    assert (row.labels, row.confidence) == ({"alignment": 1}, 0.97)
    (even,) = read(tmp_path, line | {"choice_dist": [6, 6]})
    assert even.labels == {"alignment": 0}


def test_hpdv2_has_preferences_to_train_on_and_ranks_to_test_on(tmp_path: Path) -> None:
    train = {"prompt": "a cat", "file_path": ["a.png", "b.png"], "human_preference": [0, 1], "user_hash": "x"}
    assert pairs(read(tmp_path, train)) == [("a.png", "b.png", -1)]
    ranked = {"prompt": "a cat", "image_path": ["a.png", "b.png", "c.png"], "rank": [2, 1, 2]}
    assert pairs(read(tmp_path, ranked)) == [("a.png", "b.png", -1), ("a.png", "c.png", 0), ("b.png", "c.png", 1)]


def test_imagereward_ranks_give_every_two_pictures(tmp_path: Path) -> None:
    line = {"id": "1", "prompt": "a cat", "generations": ["a.png", "b.png", "c.png"], "ranking": [1, 3, 2]}
    assert pairs(read(tmp_path, line)) == [("a.png", "b.png", 1), ("a.png", "c.png", 1), ("b.png", "c.png", -1)]


def test_videoalign_is_a_csv_with_a_label_per_question(tmp_path: Path) -> None:
    with open(tmp_path / "data.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerows(
            [["path_A", "path_B", "prompt", "VQ", "MQ", "TA"], ["a.png", "b.png", "a cat", "A", "B", "same"], ["a.png", "b.png", "a dog", "B", "", ""]]
        )
    rows = read_table(small_config(pairs=str(tmp_path / "data.csv")))
    assert [row.labels for row in rows] == [{"aesthetic": 1, "alignment": 0}, {"aesthetic": -1}]


@pytest.mark.parametrize(("said", "label"), [("A", 1), ("second", -1), ("tie", 0), (1, 1), (-1, -1), (0.0, 0), ("+1", 1)])
def test_labels_are_said_in_words_and_numbers(tmp_path: Path, said: Any, label: float) -> None:
    (row,) = read(tmp_path, {"prompt": "x", "first": "a.png", "second": "b.png", "aesthetic": said, "portrait": None})
    assert row.labels == {"aesthetic": label}
