"""Public prompts as suite files, from the user's own copy: GenEval (MIT), DPG-Bench and LongText-Bench (Apache-2.0).

None of them is shipped. What is written keeps the licence and the source; scores of it are still named after protocol and scorer.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from qi2.core.errors import QI2Error
from qi2.core.publish import write_file
from qi2.evaluation.suites.suite import Suite, load_suite

Line = dict[str, Any]
UNSPACED = ("\u3040", "\u9fff")  # from the first Japanese to the last common Chinese character


@dataclass(frozen=True)
class Public:
    """Where a benchmark's prompts are kept in its repository, how they are read, and the suite that they make."""

    file: str
    read: Callable[[Path], list[Line]]
    suite: Line


def import_suite(kind: str, path: Path, out: Path) -> Suite:
    """Write ``KIND-prompts.yaml`` and ``.jsonl`` to the folder ``out`` and return the checked suite.

    ``path``: the benchmark's file of prompts, or a folder of it. Raises QI2Error that names the file, the row and the key where it has another form.
    """
    if kind not in PUBLIC:
        raise QI2Error(
            f"{kind!r} cannot be imported; choose {', '.join(PUBLIC)} or identity. Any other prompts become a suite by one YAML file, see docs/suites.md"
        )
    public, name = PUBLIC[kind], f"{kind}-prompts"
    source = path / Path(public.file).name if path.is_dir() else path
    if not source.is_file():
        raise QI2Error(f"there is no file {source}; give {public.file} of your copy of the benchmark")
    rows = public.read(source)
    if not rows:
        raise QI2Error(f"{source} holds no prompts; give {public.file} of your copy of the benchmark")
    out.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_file(out / f"{name}.jsonl", lines.encode())
    values: Line = {"name": name} | public.suite | {"prompts": f"{name}.jsonl"}
    write_file(out / f"{name}.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode())
    return load_suite(out / f"{name}.yaml")


def _geneval(path: Path) -> list[Line]:
    rows = []
    for place, values in _jsonl(path, ("tag", "prompt", "include")):
        kept: Line = {key: values[key] for key in ("prompt", "include", "exclude") if key in values}
        rows.append({"id": f"{place:05d}", "category": values["tag"], **kept})
    return rows


def _dpg(path: Path) -> list[Line]:
    """One line of the table per question; the prompt's text is repeated on each. Parent 0 means none."""
    rows: dict[str, Line] = {}
    with open(path, newline="", encoding="utf-8-sig") as handle:
        for number, line in enumerate(csv.DictReader(handle), 2):
            if missing := [key for key in DPG_KEYS if not line.get(key)]:
                raise QI2Error(f"{path}, line {number}: there is no {missing[0]}; the table has {', '.join(DPG_KEYS)}")
            row = rows.setdefault(line["item_id"], {"id": line["item_id"], "prompt": line["text"], "questions": []})
            try:
                parents = [one for one in map(int, line["dependency"].split(",")) if one]
                question = {"id": int(line["proposition_id"]), "question": line["question_natural_language"], "parents": parents}
            except ValueError as error:
                raise QI2Error(f"{path}, line {number}: dependency and proposition_id are numbers ({error})") from error
            row["questions"].append(question | {"kind": line["category_broad"]})
    return list(rows.values())


def _longtext(path: Path) -> list[Line]:
    rows = []
    for place, values in _jsonl(path, ("prompt", "text")):
        texts = values["text"] if isinstance(values["text"], list) else [values["text"]]
        language = "zh" if any(UNSPACED[0] <= letter <= UNSPACED[1] for text in texts for letter in str(text)) else "en"
        rows.append({"id": f"{place:05d}", "category": str(values.get("category", "all")), "prompt": values["prompt"], "text": texts, "language": language})
    return rows


def _jsonl(path: Path, keys: tuple[str, ...]) -> list[tuple[int, Line]]:
    """(number from 0, object) of every line."""
    rows = []
    for number, text in enumerate(line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()):
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise QI2Error(f"{path}, row {number + 1} is not JSON: {error}") from error
        if missing := [key for key in keys if not isinstance(values, dict) or key not in values]:
            raise QI2Error(f"{path}, row {number + 1}: there is no {missing[0]}; every row has {', '.join(keys)}")
        rows.append((number, values))
    return rows


DPG_KEYS = ("item_id", "text", "proposition_id", "dependency", "category_broad", "question_natural_language")
PUBLIC = {
    "geneval": Public(
        "prompts/evaluation_metadata.jsonl", _geneval,
        {"scorer": "detector", "aggregate": "geneval", "images": 4, "licence": "MIT", "source": "github.com/djghosh13/geneval"},
    ),
    "dpg": Public(
        "dpg_bench/dpg_bench.csv", _dpg,
        {"scorer": "vqa", "aggregate": "dpg", "images": 4, "licence": "Apache-2.0", "source": "github.com/TencentQQGYLab/ELLA"},
    ),
    "longtext": Public(
        "textbench/text_prompts.jsonl", _longtext,
        {"scorer": "ocr", "local": "rapidocr", "aggregate": "longtext", "images": 4, "licence": "Apache-2.0", "source": "github.com/X-Omni-Team/X-Omni"},
    ),
}  # fmt: skip
