"""Suite files: one file is a suite, its version is its content, and an error names the file, the row and the key."""

import json
from pathlib import Path

import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.evaluation.scorers.registry import open_scorer
from qi2.evaluation.suites import registry, world_prompts
from qi2.evaluation.suites.registry import find_suite, suite_files
from qi2.evaluation.suites.suite import load_suite

ONE = """
name: signs
scorer: ocr
aggregate: text
defaults: {language: en}
prompts:
  - {prompt: a sign that says OPEN, text: OPEN}
  - {id: second, prompt: a sign that says EXIT, text: [EXIT], category: doors}
"""


def written(folder: Path, text: str, name: str = "signs.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_one_file_is_a_whole_suite(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path, ONE))
    assert [(row.id, row.category, row.prompt) for row in suite.rows] == [("1", "all", "a sign that says OPEN"), ("second", "doors", "a sign that says EXIT")]
    assert suite.rows[0].truth == {"language": "en", "text": "OPEN"}
    assert suite.label("rapidocr") == "text-protocol/rapidocr"


def test_the_version_is_the_content_and_not_the_words_about_it(tmp_path: Path) -> None:
    first = load_suite(written(tmp_path, ONE)).hash
    assert load_suite(written(tmp_path, "about: signs of shops\n" + ONE)).hash == first
    assert load_suite(written(tmp_path, ONE.replace("OPEN}", "SHUT}"))).hash != first
    assert load_suite(written(tmp_path, "images: 4\n" + ONE)).hash != first


def test_a_reference_image_is_part_of_the_version(tmp_path: Path) -> None:
    text = "name: e\ntask: edit\nscorer: judge\naggregate: gedit\nprompts: [{prompt: make it red, references: [a.png]}]\n"
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    first = load_suite(written(tmp_path, text)).hash
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "a.png")
    assert load_suite(written(tmp_path, text)).hash != first
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(QI2Error, match=r"row 1: .*a\.png cannot be read as an image"):
        load_suite(written(tmp_path, text))


@pytest.mark.parametrize("include", ["cup", "[cup]", "[{class: cup}]", "[{class: cup, count: 1, position: left}]", "7"])
def test_a_clause_of_another_form_is_named_with_its_row(tmp_path: Path, include: str) -> None:
    with pytest.raises(QI2Error, match=r"signs\.yaml, row 1: "):
        load_suite(written(tmp_path, f"name: s\nscorer: detector\naggregate: geneval\nprompts: [{{prompt: a cup, include: {include}}}]\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ONE.replace("scorer", "scoer"), r"signs\.yaml.*unknown key scoer; did you mean scorer"),
        (ONE.replace("aggregate: text", "aggregate: txt"), r"signs\.yaml: aggregate is 'txt'; choose dpg, dreambench, gedit"),
        (ONE.replace("scorer: ocr", "scorer: vqa"), r"aggregate text reads ocr; write scorer: ocr"),
        (ONE.replace("text: OPEN", "txt: OPEN"), r"signs\.yaml, row 1: there is no text"),
        (ONE.replace("text: [EXIT]", "text: 12"), r"row 2: text is 12"),
        (ONE.replace("id: second", "id: 1"), r"the id '1' comes twice"),
        (ONE.replace("scorer: ocr", "task: edit\nscorer: ocr"), r"row 1: there is no references"),
        ("name: x\nscorer: ocr\naggregate: text\n", r"has no prompts"),
        ("name: x\nscorer: ocr\naggregate: text\nprompts: gone.jsonl\n", r"there is no file .*gone\.jsonl"),
        ("- a list", r"holds no keys"),
        ("{", r"neither YAML nor JSON"),
        (ONE.replace("name: signs", "name: a/b"), r"name is 'a/b'"),
    ],
)
def test_errors_name_the_file_the_row_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(QI2Error, match=message):
        load_suite(written(tmp_path, text))


def test_a_broken_line_of_prompts_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "text": "b"}\n{oops\n')
    with pytest.raises(QI2Error, match=r"p\.jsonl, line 2 is not JSON"):
        load_suite(written(tmp_path, "name: x\nscorer: ocr\naggregate: text\nprompts: p.jsonl\n"))


def test_a_folder_of_files_is_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FOLDER", tmp_path / "none")
    path = written(tmp_path, ONE)
    assert suite_files([tmp_path]) == {"signs": path}
    assert find_suite("signs", [tmp_path]).hash == find_suite(str(path)).hash
    with pytest.raises(QI2Error, match="did you mean signs"):
        find_suite("sign", [tmp_path])
    written(tmp_path, ONE, "other.yaml")
    with pytest.raises(QI2Error, match="call it other"):
        find_suite("other", [tmp_path])


def test_shipped_suites_load_and_the_worlds_prompts_are_what_its_code_draws() -> None:
    for path in suite_files().values():
        assert load_suite(path).name == path.stem
    drawn = {"compositional": world_prompts.compositional, "text": world_prompts.text, "portraits": world_prompts.portraits, "layouts": world_prompts.layouts}
    for name, lines in ((f"world-{name}", draw()) for name, draw in drawn.items()):
        shipped = (registry.FOLDER / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in shipped] == json.loads(json.dumps(lines))
        suite = find_suite(name)
        assert open_scorer(suite).name == "world-checker"
        assert {row.category for row in suite.rows} == (set(world_prompts.TASKS) if "comp" in name else {line["category"] for line in lines[:1]})


def test_a_suite_without_a_local_scorer_says_what_to_give(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path, ONE))
    with pytest.raises(QI2Error, match="protocol ocr and has no local one; write --scorer ocr=URL#MODEL"):
        open_scorer(suite)
    with pytest.raises(QI2Error, match="says no model"):
        open_scorer(suite, "http://127.0.0.1:1/v1")


def test_the_readmes_diff_is_a_whole_suite(tmp_path: Path) -> None:
    diff = next(block for block in Path("README.md").read_text().split("```diff\n")[1:] if block.startswith("+++ conf/suites/"))
    name, *lines = diff.split("```")[0].splitlines()
    suite = load_suite(written(tmp_path, "\n".join(line.removeprefix("+") for line in lines), Path(name).name))
    assert f"{suite.name}.yaml" == Path(name).name
    assert len(suite.rows) == 2
