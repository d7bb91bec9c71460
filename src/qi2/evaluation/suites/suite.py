"""A suite as a file: prompts, who looks at the pictures, and the formula that makes figures of the answers.

One YAML (or JSON) file describes a suite; its prompts stand in it, or line by line in a JSONL file beside it. What a row must hold beside
``prompt`` depends on the aggregator: each names its keys. The hash of all of it, reference images included, is the suite's version: results compare
only where it is equal.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.evaluation.aggregate.registry import AGGREGATORS
from qi2.evaluation.suites.references.base import Reference, reference_of
from qi2.evaluation.suites.row import Row

TASKS = ("t2i", "edit")
COMMON = ("id", "prompt", "category", "references")


@dataclass
class SuiteConfig:
    """The keys of a suite file beside ``prompts`` and ``defaults``."""

    name: str = ""
    version: str = "1"  # for people; what results are compared by is the hash
    about: str = ""
    task: str = "t2i"  # or edit: every row then has references
    scorer: str = ""  # the protocol: detector, vqa, ocr, similarity or judge
    local: str = ""  # the scorer that serves where the caller names none, e.g. world
    aggregate: str = ""  # the formula, a name of AGGREGATORS
    images: int = 1  # per prompt, each with its own noise
    size: int = 0  # pixels of the square picture; 0: as the model was trained
    licence: str = ""  # of the prompts
    source: str = ""  # where they are from
    options: dict[str, Any] = field(default_factory=dict)  # of the aggregator


@dataclass(frozen=True)
class Suite:
    """A checked suite; ``hash`` changes with anything that may change a figure."""

    config: SuiteConfig
    rows: tuple[Row, ...]
    path: Path
    hash: str

    @property
    def name(self) -> str:
        """The suite's own name."""
        return self.config.name

    def label(self, scorer: str) -> str:
        """What a figure is called: the protocol and who answered, e.g. ``geneval-protocol/world-checker``; never a benchmark's bare name."""
        return f"{self.config.aggregate}-protocol/{scorer}"

    def part(self, most: int) -> "Suite":
        """At most so many prompts (0: all), evenly spread: another suite, with a hash of its own."""
        if not most or len(self.rows) <= most:
            return self
        rows = tuple(self.rows[i * len(self.rows) // most] for i in range(most))
        return Suite(self.config, rows, self.path, _hash(self.config, rows))


def load_suite(path: Path) -> Suite:
    """Read and check a suite file; raises QI2Error that names the file, and the row and key where it is one."""
    values = _read(path)
    prompts, defaults = values.pop("prompts", None), values.pop("defaults", None) or {}
    try:
        config = load(SuiteConfig, [values])
    except QI2Error as error:
        raise QI2Error(f"{path}: {error}") from error
    _check_config(config, path)
    found, place = _rows(prompts, path)
    if not found:
        raise QI2Error(f"{path} has no prompts; give a list of rows, or the name of a JSONL file, as prompts:")
    rows = tuple(_row(values, defaults, config, f"{place}, row {number}", path.parent, number) for number, values in enumerate(found, 1))
    _check_ids(rows, path)
    return Suite(config, rows, path, _hash(config, rows))


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise QI2Error(f"there is no suite file {path}; see `qi2 evaluate suites` for those that are known")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except yaml.YAMLError as error:
        raise QI2Error(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise QI2Error(f"{path} holds no keys; a suite has name, scorer, aggregate and prompts")
    return values


def _check_config(config: SuiteConfig, path: Path) -> None:
    if not config.name or "/" in config.name:
        raise QI2Error(f"{path}: name is {config.name!r}; give a short one without slashes")
    if config.task not in TASKS:
        raise QI2Error(f"{path}: task is {config.task!r}; choose {' or '.join(TASKS)}")
    if config.aggregate not in AGGREGATORS:
        raise QI2Error(f"{path}: aggregate is {config.aggregate!r}; choose {', '.join(sorted(AGGREGATORS))}")
    wanted = AGGREGATORS[config.aggregate].scorer
    if config.scorer != wanted:
        raise QI2Error(f"{path}: scorer is {config.scorer!r}, but aggregate {config.aggregate} reads {wanted}; write scorer: {wanted}")
    if config.images < 1 or config.size < 0:
        raise QI2Error(f"{path}: images is {config.images} and size {config.size}; a prompt takes one picture or more, of no negative size")


def _rows(prompts: Any, path: Path) -> tuple[list[Any], str]:
    """The rows and what their place is called in errors."""
    if not isinstance(prompts, str):
        if not isinstance(prompts, list | None):
            raise QI2Error(f"{path}: prompts is neither a list of rows nor the name of a JSONL file")
        return prompts or [], str(path)
    file, rows = path.parent / prompts, []
    if not file.exists():
        raise QI2Error(f"{path}: prompts names {prompts}, but there is no file {file}")
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            raise QI2Error(f"{file}, line {number} is not JSON: {error}") from error
    return rows, str(file)


def _row(values: Any, defaults: Mapping[str, Any], config: SuiteConfig, place: str, folder: Path, number: int) -> Row:
    values = {"prompt": values} if isinstance(values, str) else values
    if not isinstance(values, dict):
        raise QI2Error(f"{place}: {values!r} is no row; give an object with prompt and what the aggregator needs")
    merged = {**defaults, **values}
    for key in ("prompt", *AGGREGATORS[config.aggregate].needs, *(["references"] if config.task == "edit" else [])):
        if key not in merged or merged[key] in ("", None, []):
            raise QI2Error(f"{place}: there is no {key}; every row of a suite with aggregate {config.aggregate} has one")
    if not isinstance(merged["prompt"], str):
        raise QI2Error(f"{place}: prompt is {merged['prompt']!r}; give text")
    references = tuple(_reference(name, folder, place) for name in merged.get("references", ()))
    truth = {key: value for key, value in merged.items() if key not in COMMON}
    row = Row(str(merged.get("id", number)), merged["prompt"], str(merged.get("category", "all")), references, truth)
    if wrong := _wrong(row, config.aggregate):
        raise QI2Error(f"{place}: {wrong}")
    return row


def _wrong(row: Row, aggregate: str) -> str:
    """What is wrong with the row for its formula, or nothing."""
    aggregator = AGGREGATORS[aggregate]
    try:
        return aggregator.check(row)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        return f"{', '.join(aggregator.needs)} cannot be read ({error}); see docs/suites.md for their form"


def _reference(given: Any, folder: Path, place: str) -> Reference:
    reference = reference_of(given, folder)
    if wrong := reference.check():
        raise QI2Error(f"{place}: {wrong}")
    return reference


def _check_ids(rows: tuple[Row, ...], path: Path) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise QI2Error(f"{path}: the id {row.id!r} comes twice; give every row its own")
        seen.add(row.id)


def _hash(config: SuiteConfig, rows: tuple[Row, ...]) -> str:
    decides = {name: value for name, value in asdict(config).items() if name not in ("about", "licence", "source", "local")}
    parts = [[row.id, row.prompt, row.category, [reference.hash(config.size) for reference in row.references], row.truth] for row in rows]
    return hashlib.sha256(json.dumps([decides, parts], sort_keys=True).encode()).hexdigest()
