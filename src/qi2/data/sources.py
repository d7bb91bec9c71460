"""A user's own images: readers of a folder, a JSON-lines file or a parquet table, and what identifies their state.

A reader yields ``UserRow`` and never skips: a file that is missing or empty becomes a row without bytes, which curation rejects and
reports. Only a table that cannot be understood is an error.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qi2.core.errors import QI2Error

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_IMAGE_KEYS = ("image", "path", "file", "file_name", "filename")
_CAPTION_KEYS = ("captions", "caption", "text", "instruction")


@dataclass(frozen=True)
class UserRow:
    """One image with its captions; with ``references`` (file bytes, suffix) it is an edit and the captions are instructions."""

    name: str  # for messages: the file, or the table and the row
    data: bytes
    suffix: str
    captions: tuple[str, ...]
    references: tuple[tuple[bytes, str], ...] = ()
    licence: str = ""


def read_source(path: Path) -> Iterator[UserRow]:
    """All rows of a folder or table in a fixed order; raises QI2Error that names the file and row that cannot be understood."""
    return _READERS[source_kind(path)](Path(path))


def source_kind(path: Path) -> str:
    """``folder``, ``jsonl`` or ``parquet``; raises QI2Error for anything else."""
    path = Path(path)
    if not path.exists():
        raise QI2Error(f"data.source={path} does not exist; give a folder of images with .txt captions, a .jsonl or a .parquet file")
    kind = "folder" if path.is_dir() else path.suffix.lower().lstrip(".")
    if kind not in _READERS:
        raise QI2Error(f"data.source={path} is none of: {', '.join(_READERS)}; give a folder of images with .txt captions, .jsonl or .parquet")
    return kind


def fingerprint(path: str | Path) -> str:
    """Hex digest of names, sizes and modification times of a source's files; changes when the data does. Empty for no source."""
    if not str(path):
        return ""
    source_kind(Path(path))
    root = Path(path)
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    digest = hashlib.sha256()
    for file in files:
        state = file.stat()
        digest.update(f"{file.relative_to(root) if root.is_dir() else file.name}|{state.st_size}|{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _read_folder(root: Path) -> Iterator[UserRow]:
    """Images with a caption file of the same name, one caption a line; an image without one has no caption."""
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise QI2Error(f"data.source={root} has no images ({', '.join(IMAGE_SUFFIXES)}); put IMAGE.png with its caption in IMAGE.txt")
    for file in files:
        text = file.with_suffix(".txt")
        lines = text.read_text(errors="replace").splitlines() if text.exists() else []
        yield UserRow(str(file), file.read_bytes(), file.suffix, tuple(line.strip() for line in lines if line.strip()))


def _read_jsonl(path: Path) -> Iterator[UserRow]:
    with open(path, encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except json.JSONDecodeError as error:
                raise QI2Error(f"{path} line {number} is not JSON: {error}; write one object a line") from error
            if not isinstance(values, dict):
                raise QI2Error(f"{path} line {number} is not an object; write for example {_EXAMPLE}")
            yield _table_row(values, path, f"{path} line {number}")


def _read_parquet(path: Path) -> Iterator[UserRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise QI2Error(f"{path} is not a parquet file: {error}") from error
    number = 0
    for batch in table.iter_batches(256):
        for values in batch.to_pylist():
            number += 1
            yield _table_row(values, path, f"{path} row {number}")


def _table_row(values: Mapping[str, Any], path: Path, name: str) -> UserRow:
    image = _first(values, _IMAGE_KEYS, name)
    captions = _first(values, _CAPTION_KEYS, name)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        raise QI2Error(f"{name}: the caption is {captions!r}; give a text or a list of texts")
    data, suffix = _load(image, path.parent, name)
    references = tuple(_load(item, path.parent, name) for item in values.get("references") or ())
    return UserRow(name, data, suffix, tuple(captions), references, str(values.get("licence") or values.get("license") or ""))


def _first(values: Mapping[str, Any], keys: tuple[str, ...], name: str) -> Any:
    for key in keys:
        if values.get(key) is not None:
            return values[key]
    raise QI2Error(f"{name} has none of the keys {', '.join(keys)}; write for example {_EXAMPLE}")


def _load(image: Any, folder: Path, name: str) -> tuple[bytes, str]:
    """Bytes and suffix of a path, of raw bytes, or of the datasets library's {"bytes", "path"}; no bytes where a file is missing."""
    if isinstance(image, Mapping):
        if image.get("bytes") is not None:
            return bytes(image["bytes"]), Path(str(image.get("path") or "")).suffix
        image = image.get("path")
    if isinstance(image, bytes):
        return image, ""
    if not isinstance(image, str):
        raise QI2Error(f"{name}: the image is {type(image).__name__}; give a path or the file's bytes")
    file = folder / image
    return (file.read_bytes() if file.is_file() else b""), file.suffix


_EXAMPLE = '{"image": "cat.png", "caption": "a cat"}'
_READERS: dict[str, Callable[[Path], Iterator[UserRow]]] = {"folder": _read_folder, "jsonl": _read_jsonl, "parquet": _read_parquet}
