"""Tables with an image (a path or the bytes) and a caption per line: JSON lines, CSV, parquet, and the datasets library's Arrow folders."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qi2.core.errors import QI2Error
from qi2.data.sources.rows import UserRow, json_object, table_row

BATCH = 256
LONGEST = 1 << 24  # characters of one field of a CSV file


def read_jsonl(path: Path) -> Iterator[UserRow]:
    """One object a line."""
    with open(path, encoding="utf-8", errors="replace") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                name = f"{path} line {number}"
                yield table_row(json_object(line, name), path.parent, name)


def read_csv(path: Path) -> Iterator[UserRow]:
    """A header and one line per image, separated by commas or, in a .tsv, tabs; lists (captions, references) as JSON."""
    csv.field_size_limit(LONGEST)
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as handle:
        reader = csv.DictReader(handle, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", restkey="more", restval=None)
        try:
            for values in reader:
                name = f"{path} line {reader.line_num}"
                if "more" in values:
                    raise QI2Error(f"{name} has {len(values['more'])} fields more than the header; put fields with separators in quotes")
                yield table_row({key: _cell(value, name) for key, value in values.items()}, path.parent, name)
        except csv.Error as error:
            raise QI2Error(f"{path} line {reader.line_num} is not CSV: {error}") from error


def _cell(value: str | None, name: str) -> Any:
    if not value:
        return None
    if not value.startswith("["):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value  # a caption that begins with a bracket


def read_parquet(path: Path) -> Iterator[UserRow]:
    """One row per image, read in batches."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise QI2Error(f"{path} is not a parquet file: {error}") from error
    number = 0
    for batch in table.iter_batches(BATCH):
        for values in batch.to_pylist():
            number += 1
            yield table_row(values, path.parent, f"{path} row {number}")


def read_arrow(root: Path) -> Iterator[UserRow]:
    """A folder that `datasets.save_to_disk` wrote, of one split or of several, one after the other."""
    import pyarrow as pa

    for path in sorted(root.rglob("*.arrow")):
        number = 0
        try:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
                for batch in reader:
                    for values in batch.to_pylist():
                        number += 1
                        yield table_row(values, path.parent, f"{path} row {number}")
        except pa.ArrowInvalid as error:
            raise QI2Error(f"{path} is no Arrow stream after row {number}: {error}; save the dataset again") from error


def read_tables(root: Path) -> Iterator[UserRow]:
    """All tables below a folder, in order, as a hub's snapshot has them."""
    for path in tables(root):
        yield from TABLES[path.suffix.lower()](path)


def tables(root: Path) -> list[Path]:
    """The table files below a folder."""
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in TABLES and path.is_file())


TABLES = {".jsonl": read_jsonl, ".csv": read_csv, ".tsv": read_csv, ".parquet": read_parquet}
