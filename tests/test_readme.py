"""The README keeps its word: its targets, stages, commands and the diff that adds a stage exist and are whole."""

import re
from pathlib import Path

import yaml

from qi2.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()


def diff_files() -> dict[str, str]:
    """{path: added text} of the README's diff."""
    block = TEXT.split("```diff\n")[1].split("```")[0]
    parts = re.split(r"^\+\+\+ (.+)\n", block, flags=re.MULTILINE)[1:]
    return {name: re.sub(r"^\+", "", text, flags=re.MULTILINE) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def test_the_diff_that_adds_a_stage_is_valid_code_and_a_valid_entry() -> None:
    files = diff_files()
    for name, text in files.items():
        if name.endswith(".py"):
            compile(text, name, "exec")
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text() + files["dvc.yaml"])["stages"]
    given = stages["colours"]["do"]
    assert stages["ingest"]["foreach"] == stages["colours"]["foreach"]
    for path in given["deps"]:
        assert path in files or path.startswith("runs/") or (ROOT / path).exists(), path


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", TEXT, re.MULTILINE)) | set(
        re.findall(r"`([a-z]+)`", TEXT.split("`make help` lists the rest:")[1].split(".")[0])
    )  # noqa: E501
    assert named <= targets, named - targets


def test_the_stage_table_names_every_stage_of_the_line() -> None:
    stages = set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]) - {"config"}
    assert stages == set(re.findall(r"^\| `(\w+)` \| \d[^|]*\| `src/", TEXT, re.MULTILINE))


def test_every_path_that_the_readme_names_exists() -> None:
    for path in re.findall(r"`((?:src|tasks|flows|conf|mlflow|docs)/[\w/.]*)`", TEXT):
        assert (ROOT / path).exists(), path


def test_commands_of_the_readme_parse() -> None:
    parser = build_parser()
    lines = re.findall(r"^(?:\.venv/bin/)?qi2 (.+)$", TEXT, re.MULTILINE)
    assert lines
    for line in lines:
        words = [plain or quoted for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]
        assert callable(parser.parse_args(words).run)
