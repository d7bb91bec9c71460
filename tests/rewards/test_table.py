"""A user's table of annotated judgements."""

import json
from pathlib import Path
from typing import Any

import pytest
from rewards_settings import small_config

from qi2.core.errors import QI2Error
from qi2.data.world.render import render
from qi2.data.world.scene import Object, Scene
from qi2.rewards.config import RewardsConfig
from qi2.rewards.table import read_table, table_judgements


def write(folder: Path, *rows: dict[str, Any], name: str = "pairs.jsonl", **changes: Any) -> RewardsConfig:
    for color in ("red", "blue"):
        render(Scene("one", objects=(Object("circle", color, 0, 0),)), 96).save(folder / f"{color}.png")
    (folder / name).write_text(json.dumps(rows) if name.endswith(".json") else "\n".join(json.dumps(row) for row in rows))
    return small_config(pairs=str(folder / name), **({"heldout_share": 0.2} | changes))


def row(i: int = 0, **changes: Any) -> dict[str, Any]:
    return {"prompt": f"a red circle {i}", "better": "red.png", "worse": "blue.png", "dimension": "alignment"} | changes


def test_judgements_are_split_by_prompt_and_read_at_the_models_size(tmp_path: Path) -> None:
    config = write(tmp_path, *(row(i % 10) for i in range(40)))
    found = table_judgements(read_table(config), "alignment", config, 0)
    assert found is not None
    train, held = found
    assert (train.count, held.count) == (32, 8)
    assert {train.get(i).prompt for i in range(32)}.isdisjoint(held.get(i).prompt for i in range(8))
    assert train.get(0).pictures[0].size == (64, 64)
    assert (train.get(0).label, train.get(0).truth, train.origin) == (1, None, "annotated")


def test_a_dimension_without_rows_is_left_to_others(tmp_path: Path) -> None:
    config = write(tmp_path, row())
    assert table_judgements(read_table(config), "portrait", config, 0) is None


def test_a_parquet_table_with_bytes_and_several_sources_is_read(tmp_path: Path) -> None:
    import pandas as pd

    config = write(tmp_path, name="pairs.jsonl")
    picture = (tmp_path / "red.png").read_bytes()
    values = {"first": {"bytes": picture, "path": None}, "second": {"bytes": picture, "path": None}, "instruction": 0, "consistency": -1}
    rows = [{"prompt": f"edit {i}", **values, "source": ["red.png", "blue.png"]} for i in range(12)]
    pd.DataFrame(rows).to_parquet(tmp_path / "pairs.parquet")
    config.pairs = str(tmp_path / "pairs.parquet")
    table = read_table(config)
    for dimension, label in (("instruction", 0), ("consistency", -1)):
        found = table_judgements(table, dimension, config, 0)
        assert found is not None
        assert found[0].get(0).label == label
        assert len(found[0].get(0).sources) == 2


def test_single_pictures_with_scores_are_judgements_of_one(tmp_path: Path) -> None:
    config = write(tmp_path, *({"prompt": f"p {i % 4}", "image": "red.png", "aesthetic": i / 2, "alignment": None} for i in range(12)))
    found = table_judgements(read_table(config), "aesthetic", config, 0)
    assert found is not None
    one = found[0].get(0)
    assert len(one.pictures) == 1
    assert one.label in [i / 2 for i in range(12)]
    assert table_judgements(read_table(config), "alignment", config, 0) is None


def test_unsure_annotations_are_left_out(tmp_path: Path) -> None:
    config = write(tmp_path, row(0, confidence=0.9), row(1, confidence=0.99), row(2), min_confidence=0.95)
    assert [found.prompt for found in read_table(config)] == ["a red circle 1", "a red circle 2"]


def test_paths_start_from_the_given_folder(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    write(tmp_path)
    config = write(tmp_path / "tables", *(row(i, better="tables/red.png") for i in range(12)), images=str(tmp_path))
    found = table_judgements(read_table(config), "alignment", config, 0)
    assert found is not None
    assert found[0].get(0).pictures[1].size == (64, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dimension": "alignement"}, "line 2: .*did you mean alignment"),
        ({"prompt": None}, "line 2: prompt is None"),
        ({"better": 3}, "line 2: a picture is 3"),
        ({"dimension": "consistency"}, "line 2: consistency judges an edit but source is missing"),
        ({"confidence": "high"}, "line 2: confidence is 'high'; give a number"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(QI2Error, match=message):
        read_table(write(tmp_path, row(), row(**changes)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt": "x", "first": "a", "second": "b", "aesthetic": "maybe"}, "line 1: aesthetic is 'maybe'; a label is 1, -1 or 0"),
        ({"prompt": "x", "image": "a", "aesthetic": "nice"}, "line 1: aesthetic is 'nice'; give a number"),
        ({"prompt": "x", "generations": ["a", "b"], "ranking": [1]}, "line 1: .* not as many pictures"),
        ({"prompt": "x", "left": "a", "right": "b"}, "line 1 has the keys prompt, left, right, which are of no known format"),
        ({"prompt": "x", "first": "a", "second": "b", "beauty": 1}, "judges none of aesthetic"),
    ],
)
def test_what_cannot_be_understood_says_what_to_write(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    with pytest.raises(QI2Error, match=message):
        read_table(write(tmp_path, line))


def test_a_wrong_format_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="line 1 lacks path_A, which the format videoalign needs"):
        read_table(write(tmp_path, row(), format="videoalign"))
    with pytest.raises(QI2Error, match="rewards.format=mine is not known; choose one of better, labels"):
        read_table(write(tmp_path, row(), format="mine"))


def test_a_picture_that_cannot_be_read_is_named_with_its_row(tmp_path: Path) -> None:
    config = write(tmp_path, *(row(i, worse="gone.png") for i in range(12)))
    found = table_judgements(read_table(config), "alignment", config, 0)
    assert found is not None
    with pytest.raises(QI2Error, match=r"line \d+: the picture gone.png cannot be read"):
        found[0].get(0)


def test_too_few_judgements_and_two_kinds_of_them_are_errors(tmp_path: Path) -> None:
    config = write(tmp_path, row(1), row(2))
    with pytest.raises(QI2Error, match="2 judgements on 2 prompts for alignment are too few; give 10 on 3 prompts"):
        table_judgements(read_table(config), "alignment", config, 0)
    config = write(tmp_path, *(row(i) for i in range(12)), *({"prompt": f"a red circle {i}", "image": "red.png", "alignment": 3} for i in range(12)))
    with pytest.raises(QI2Error, match="rows compare two pictures for alignment and .* score one"):
        table_judgements(read_table(config), "alignment", config, 0)


def test_files_that_are_no_tables_are_errors(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text('{"prompt": ')
    (tmp_path / "broken.json").write_text('{"prompt": 1}')
    (tmp_path / "broken.parquet").write_text("no")
    (tmp_path / "broken.csv").write_text("prompt,better\na,b,c\n")
    wrong = {
        "broken.jsonl": "line 1 is not JSON",
        "broken.json": "is no list",
        "broken.parquet": "not a parquet",
        "broken.csv": "line 2 has 1 fields more than the header",
        "gone.jsonl": "no file of the kinds .jsonl, .json",
    }
    for name, message in wrong.items():
        with pytest.raises(QI2Error, match=message):
            read_table(small_config(pairs=str(tmp_path / name)))
