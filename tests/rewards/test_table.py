"""A user's table of annotated preferences."""

import json
from pathlib import Path
from typing import Any

import pytest

from qi2.core.errors import QI2Error
from qi2.data.world.render import render
from qi2.data.world.scene import Object, Scene
from qi2.rewards.table import read_table, table_judgements


def write(folder: Path, *rows: dict[str, Any], name: str = "pairs.jsonl") -> Path:
    for color in ("red", "blue"):
        render(Scene("one", objects=(Object("circle", color, 0, 0),)), 96).save(folder / f"{color}.png")
    (folder / name).write_text("\n".join(json.dumps(row) for row in rows))
    return folder / name


def row(i: int = 0, **changes: Any) -> dict[str, Any]:
    return {"prompt": f"a red circle {i}", "better": "red.png", "worse": "blue.png", "dimension": "alignment"} | changes


def test_pairs_are_split_by_prompt_and_read_at_the_models_size(tmp_path: Path) -> None:
    path = write(tmp_path, *(row(i % 10) for i in range(40)))
    found = table_judgements(read_table(path), "alignment", tmp_path, 0.2, 64, 0)
    assert found is not None
    train, held = found
    assert (train.count, held.count) == (32, 8)
    assert {train.get(i).prompt for i in range(32)}.isdisjoint(held.get(i).prompt for i in range(8))
    assert train.get(0).pictures[0].size == (64, 64)
    assert train.origin == "annotated"


def test_a_dimension_without_rows_is_left_to_others(tmp_path: Path) -> None:
    assert table_judgements(read_table(write(tmp_path, row())), "portrait", tmp_path, 0.1, 64, 0) is None


def test_a_parquet_table_with_bytes_and_several_sources_is_read(tmp_path: Path) -> None:
    import pandas as pd

    write(tmp_path)
    picture = (tmp_path / "red.png").read_bytes()
    values = {"better": {"bytes": picture, "path": None}, "worse": {"bytes": picture, "path": None}, "dimension": "instruction"}
    rows = [{"prompt": f"edit {i}", **values, "source": ["red.png", "blue.png"]} for i in range(12)]
    pd.DataFrame(rows).to_parquet(tmp_path / "pairs.parquet")
    found = table_judgements(read_table(tmp_path / "pairs.parquet"), "instruction", tmp_path, 0.2, 64, 0)
    assert found is not None
    assert len(found[0].get(0).sources) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dimension": "alignement"}, "line 2: .*did you mean alignment"),
        ({"prompt": None}, "line 2: prompt is None"),
        ({"better": 3}, "line 2: a picture is 3"),
        ({"dimension": "consistency"}, "line 2: consistency judges an edit but source is missing"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(QI2Error, match=message):
        read_table(write(tmp_path, row(), row(**changes)))


def test_a_picture_that_cannot_be_read_is_named_with_its_row(tmp_path: Path) -> None:
    found = table_judgements(read_table(write(tmp_path, *(row(i, worse="gone.png") for i in range(12)))), "alignment", tmp_path, 0.1, 64, 0)
    assert found is not None
    with pytest.raises(QI2Error, match=r"line \d+: the picture gone.png cannot be read"):
        found[0].get(0)


def test_too_few_pairs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="2 pairs on 2 prompts for alignment are too few"):
        table_judgements(read_table(write(tmp_path, row(1), row(2))), "alignment", tmp_path, 0.1, 64, 0)


def test_files_that_are_no_tables_are_errors(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text('{"prompt": ')
    (tmp_path / "broken.parquet").write_text("no")
    for name, message in (("broken.jsonl", "line 1 is not JSON"), ("broken.parquet", "not a parquet"), ("gone.jsonl", "no .jsonl or .parquet")):
        with pytest.raises(QI2Error, match=message):
            read_table(tmp_path / name)
