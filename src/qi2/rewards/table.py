"""Annotated judgements from a user's table: pairs with labels per dimension, ties among them, rankings, or single pictures with scores."""

import csv
import difflib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.models.pixels import flatten_alpha
from qi2.rewards.config import DIMENSIONS, NEEDS, RewardsConfig
from qi2.rewards.formats import EXAMPLE, FORMATS, TableRow, recognise
from qi2.rewards.pairs import Judgement, Judgements
from qi2.training.pictures import square

LEAST = 10  # judgements of one dimension
LEAST_PROMPTS = 3  # one to train on, one for the common scale, one for the figures
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def read_table(config: RewardsConfig) -> list[TableRow]:
    """All rows of ``config.pairs`` with labels of our dimensions; rows of less than its confidence are left out.

    Raises QI2Error that names the file and row that cannot be understood.
    """
    path = Path(config.pairs)
    if config.format and config.format not in FORMATS:
        raise QI2Error(f"rewards.format={config.format} is not known; choose one of {', '.join(FORMATS)}, or leave it empty: the columns tell")
    rows = []
    for name, values in read_rows(path):
        kind = config.format or recognise(list(values), name)
        if missing := sorted(FORMATS[kind].needs - set(values)):
            raise QI2Error(f"{name} lacks {missing[0]}, which the format {kind} needs; rewards.format may be wrong")
        rows += [_ours(row, {**FORMATS[kind].asked, **config.dimensions}) for row in FORMATS[kind].rows(values, name)]
    if not any(row.labels for row in rows):
        raise QI2Error(f"rewards.pairs={path} judges none of {', '.join(DIMENSIONS)}; name its columns so, or set rewards.dimensions")
    return [row for row in rows if row.labels and row.confidence >= config.min_confidence]


def read_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where it stands, values) of every row of a table. Raises QI2Error that names the file and row that cannot be understood."""
    if not path.is_file() or path.suffix.lower() not in _READERS:
        raise QI2Error(f"{path} is no file of the kinds {', '.join(_READERS)}; give one with lines such as {EXAMPLE}")
    return _READERS[path.suffix.lower()](path)


def _ours(row: TableRow, asked: Mapping[str, str]) -> TableRow:
    """The row with the labels of our dimensions alone."""
    labels = {}
    for question, value in row.labels.items():
        dimension = asked.get(question, question)
        if not dimension:
            continue
        if dimension not in DIMENSIONS:
            near = difflib.get_close_matches(dimension, DIMENSIONS, 1, 0.0)[0]
            raise QI2Error(f"{row.name}: dimension is {dimension!r}; did you mean {near}? Choose from {', '.join(DIMENSIONS)}")
        if NEEDS[dimension].source and not row.sources:
            raise QI2Error(f"{row.name}: {dimension} judges an edit but source is missing; give the picture that was edited")
        labels[dimension] = value
    return TableRow(row.name, row.prompt, row.pictures, row.sources, labels, row.confidence)


def table_judgements(rows: Sequence[TableRow], dimension: str, config: RewardsConfig, seed: int) -> tuple[Judgements, Judgements] | None:
    """(to train on, held out) of a dimension, or None where the table has none; all rows of a prompt are on one side."""
    mine = [row for row in rows if dimension in row.labels]
    if not mine:
        return None
    order = sorted({row.prompt for row in mine}, key=lambda prompt: rng.key(seed, f"rewards/heldout/{prompt}"))
    if len(mine) < LEAST or len(order) < LEAST_PROMPTS:
        few = f"{len(mine)} judgements on {len(order)} prompts for {dimension} are too few"
        raise QI2Error(f"rewards.pairs: {few}; give {LEAST} on {LEAST_PROMPTS} prompts at least, or none")
    apart = set(order[: min(max(2, round(config.heldout_share * len(order))), len(order) - 1)])
    train, held = (judgements([row for row in mine if (row.prompt in apart) == side], dimension, config) for side in (False, True))
    return train, held


def judgements(rows: Sequence[TableRow], dimension: str, config: RewardsConfig) -> Judgements:
    """Rows that all have a label of the dimension. Of every picture the centred square is taken, at the models' size."""
    kinds = Counter(len(row.pictures) for row in rows)
    if len(kinds) > 1:
        raise QI2Error(f"rewards.pairs: {kinds[2]} rows compare two pictures for {dimension} and {kinds[1]} score one; give it one kind")
    folder = Path(config.images or Path(config.pairs).parent)

    def get(index: int) -> Judgement:
        row = rows[index]
        pictures, sources = (tuple(open_square(value, folder, config.size, row.name) for value in values) for values in (row.pictures, row.sources))
        return Judgement(row.prompt, pictures, row.labels[dimension], sources)

    return Judgements(len(rows), get, "annotated")


def open_square(value: Any, folder: Path, size: int, name: str) -> Image.Image:
    """The picture behind a path or file bytes, upright, without transparency: its centred square at ``size`` px."""
    content = io.BytesIO(value) if isinstance(value, bytes) else folder / value
    try:
        with Image.open(content) as image:
            upright = flatten_alpha(ImageOps.exif_transpose(image))
    except _UNREADABLE as error:
        shown = "its bytes" if isinstance(value, bytes) else value
        raise QI2Error(f"{name}: the picture {shown} cannot be read: {error}; repair the file or remove the row") from error
    return square(upright, size)


def _read_jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise QI2Error(f"{path} line {number} is not JSON: {error}; write one object a line, for example {EXAMPLE}") from error
        yield _object(values, f"{path} line {number}")


def _read_json(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise QI2Error(f"{path} is not JSON: {error}; write a list of objects such as {EXAMPLE}, or one a line in a .jsonl file") from error
    if not isinstance(values, list):
        raise QI2Error(f"{path} is no list; write a list of objects such as {EXAMPLE}")
    yield from (_object(item, f"{path} item {number}") for number, item in enumerate(values, 1))


def _object(values: Any, name: str) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(values, dict):
        raise QI2Error(f"{name} is not an object; write for example {EXAMPLE}")
    return name, values


def _read_csv(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with open(path, encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", restkey="more")
        for values in reader:
            name = f"{path} line {reader.line_num}"
            if "more" in values:
                raise QI2Error(f"{name} has {len(values['more'])} fields more than the header; put fields with separators in quotes")
            yield name, values


def _read_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        values = pq.read_table(path).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise QI2Error(f"{path} is not a parquet file: {error}") from error
    yield from ((f"{path} row {number}", row) for number, row in enumerate(values, 1))


_READERS = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet}
