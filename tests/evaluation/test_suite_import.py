"""Public prompts become suites from the user's own copy, with their licence; another form is named by row and key."""

import json
from pathlib import Path

import pytest

from qi2.core.errors import QI2Error
from qi2.evaluation.suites.public import DPG_KEYS, import_suite


def test_geneval_keeps_its_clauses_and_tasks(tmp_path: Path) -> None:
    rows = [
        {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
        {
            "tag": "position", "prompt": "a photo of a dog right of a teddy bear",
            "include": [{"class": "teddy bear", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0]}],
        },
        {"tag": "counting", "include": [{"class": "cup", "count": 2}], "exclude": [{"class": "cup", "count": 3}], "prompt": "a photo of two cups"},
    ]  # fmt: skip
    source = tmp_path / "evaluation_metadata.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    suite = import_suite("geneval", tmp_path, tmp_path / "out")
    assert (suite.name, suite.config.licence, suite.config.images) == ("geneval-prompts", "MIT", 4)
    assert [row.category for row in suite.rows] == ["single_object", "position", "counting"]
    assert suite.rows[2].truth == {"include": [{"class": "cup", "count": 2}], "exclude": [{"class": "cup", "count": 3}]}
    source.write_text('{"prompt": "a"}\n')
    with pytest.raises(QI2Error, match="row 1: there is no tag"):
        import_suite("geneval", source, tmp_path / "out")


def test_dpg_gathers_a_prompts_questions_and_their_parents(tmp_path: Path) -> None:
    def line(item: str, number: int, parents: str, kind: str) -> str:
        return f'{item},"A cat, on a mat.",{number},"{parents}",{kind},Is it number {number}?'

    source = tmp_path / "dpg_bench.csv"
    source.write_text(
        "\n".join(
            [",".join(DPG_KEYS), line("0", 1, "0", "entity"), line("0", 2, "1", "attribute"), line("0", 3, "1,2", "relation"), line("1", 1, "0", "entity")]
        )
    )
    suite = import_suite("dpg", source, tmp_path / "out")
    assert [len(row.truth["questions"]) for row in suite.rows] == [3, 1]
    assert suite.rows[0].prompt == "A cat, on a mat."
    assert suite.rows[0].truth["questions"][2] == {"id": 3, "question": "Is it number 3?", "parents": [1, 2], "kind": "relation"}
    source.write_text(",".join(DPG_KEYS) + "\n0,a cat,1,none,entity,Is it?\n")
    with pytest.raises(QI2Error, match="line 2: dependency and proposition_id are numbers"):
        import_suite("dpg", source, tmp_path / "out")


def test_longtext_tells_chinese_from_english(tmp_path: Path) -> None:
    rows = [{"prompt": "a sign", "text": ["Open", "daily"], "category": "sign"}, {"prompt": "一块牌子", "text": ["营业中"]}]
    (tmp_path / "text_prompts.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    suite = import_suite("longtext", tmp_path, tmp_path / "out")
    assert [row.truth["language"] for row in suite.rows] == ["en", "zh"]
    assert suite.config.local == "rapidocr"


def test_an_unknown_benchmark_or_a_missing_file_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="choose geneval, dpg, longtext"):
        import_suite("oneig", tmp_path, tmp_path)
    with pytest.raises(QI2Error, match="give prompts/evaluation_metadata.jsonl"):
        import_suite("geneval", tmp_path, tmp_path)
