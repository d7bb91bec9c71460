"""Annotated preference pairs from a user's table (.jsonl or .parquet): prompt, better, worse, source (optional), dimension."""

import difflib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.models.pixels import flatten_alpha
from qi2.rewards.config import DIMENSIONS, NEEDS
from qi2.rewards.pairs import Judgement, Judgements
from qi2.training.encode import square

EXAMPLE = '{"prompt": "a red cube", "better": "a.png", "worse": "b.png", "dimension": "alignment"}'
LEAST = 10  # pairs of one dimension
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True)
class TableRow:
    """One annotated pair; pictures are paths or file bytes. ``name`` says where it stands, for messages."""

    name: str
    prompt: str
    better: Any
    worse: Any
    sources: tuple[Any, ...]
    dimension: str


def read_table(path: Path) -> list[TableRow]:
    """All rows. Raises QI2Error that names the file and row that cannot be understood."""
    path = Path(path)
    if not path.is_file() or path.suffix.lower() not in _READERS:
        raise QI2Error(f"rewards.pairs={path} is no .jsonl or .parquet file; give one with lines such as {EXAMPLE}")
    return [_row(values, name) for name, values in _READERS[path.suffix.lower()](path)]


def table_judgements(rows: Sequence[TableRow], dimension: str, folder: Path, share: float, size: int, seed: int) -> tuple[Judgements, Judgements] | None:
    """(training pairs, held-out pairs) of a dimension, or None where the table has none; all rows of a prompt are on one side.

    ``folder`` is what relative paths start from. Of every picture the centred square is
    taken, at ``size`` px.
    """
    mine = [row for row in rows if row.dimension == dimension]
    if not mine:
        return None
    order = sorted({row.prompt for row in mine}, key=lambda prompt: rng.key(seed, f"rewards/heldout/{prompt}"))
    apart = set(order[: max(1, round(share * len(order)))])
    sides = [[row for row in mine if (row.prompt in apart) == held] for held in (False, True)]
    if len(mine) < LEAST or not sides[0]:
        raise QI2Error(f"rewards.pairs: {len(mine)} pairs on {len(order)} prompts for {dimension} are too few; give {LEAST} on several prompts, or none")
    train, held = (Judgements(len(side), _opener(side, folder, size), "annotated") for side in sides)
    return train, held


def _opener(rows: list[TableRow], folder: Path, size: int) -> Any:
    def get(index: int) -> Judgement:
        row = rows[index]
        better, worse, *sources = (open_square(value, folder, size, row.name) for value in (row.better, row.worse, *row.sources))
        return Judgement(row.prompt, (better, worse), 1, tuple(sources))

    return get


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


def _row(values: Mapping[str, Any], name: str) -> TableRow:
    dimension = values.get("dimension")
    if dimension not in DIMENSIONS:
        near = difflib.get_close_matches(str(dimension), DIMENSIONS, 1, 0.0)[0]
        raise QI2Error(f"{name}: dimension is {dimension!r}; did you mean {near}? Choose from {', '.join(DIMENSIONS)}")
    if not isinstance(values.get("prompt"), str):
        raise QI2Error(f"{name}: prompt is {values.get('prompt')!r}; give a text, for example {EXAMPLE}")
    source = values.get("source")
    sources = [] if source is None else list(source) if isinstance(source, list | tuple) else [source]
    if NEEDS[dimension].source and not sources:
        raise QI2Error(f"{name}: {dimension} judges an edit but source is missing; give the picture that was edited")
    better, worse, *sources = (_picture(value, name) for value in (values.get("better"), values.get("worse"), *sources))
    return TableRow(name, values["prompt"], better, worse, tuple(sources), dimension)


def _picture(value: Any, name: str) -> str | bytes:
    """A path or bytes; the datasets library's {"bytes", "path"} is taken apart."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, str | bytes) or not value:
        raise QI2Error(f"{name}: a picture is {value!r}; better, worse and source are paths or file bytes, for example {EXAMPLE}")
    return value


def _read_jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise QI2Error(f"{path} line {number} is not JSON: {error}; write one object a line, for example {EXAMPLE}") from error
        if not isinstance(values, dict):
            raise QI2Error(f"{path} line {number} is not an object; write for example {EXAMPLE}")
        yield f"{path} line {number}", values


def _read_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        values = pq.read_table(path).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise QI2Error(f"{path} is not a parquet file: {error}") from error
    yield from ((f"{path} row {number}", row) for number, row in enumerate(values, 1))


_READERS = {".jsonl": _read_jsonl, ".parquet": _read_parquet}
