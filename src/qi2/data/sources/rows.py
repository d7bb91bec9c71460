"""One row of a user's data, and how a table's line becomes one.

A reader yields ``UserRow`` and never skips: a file that is missing or cannot be read becomes a row without bytes, which curation rejects
and reports. Only a table that cannot be understood is an error.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qi2.core.errors import QI2Error

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
IMAGE_KEYS = ("image", "path", "file", "file_name", "filename")
CAPTION_KEYS = ("captions", "caption", "text", "instruction")
EXAMPLE = '{"image": "cat.png", "caption": "a cat"}'
TRUE = ("true", "yes", "1", "y")


@dataclass(frozen=True)
class UserRow:
    """One image with its captions; with ``references`` (file bytes, suffix) it is an edit and the captions are instructions."""

    name: str  # for messages: the file, or the table and the row
    data: bytes
    suffix: str
    captions: tuple[str, ...]
    references: tuple[tuple[bytes, str], ...] = ()
    licence: str = ""
    origin: str = ""  # where it came from, e.g. a web address
    opt_out: bool = False  # its owner does not want it trained on
    mask: bytes | None = None  # of an edit, the file of its mask (white: may change), empty where it cannot be read; None: none given


def table_row(values: Mapping[str, Any], folder: Path, name: str) -> UserRow:
    """The row of a table's line; paths count from ``folder``. Raises QI2Error that calls it ``name`` when it cannot be understood."""
    image = first(values, IMAGE_KEYS, name)
    captions = first(values, CAPTION_KEYS, name)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        raise QI2Error(f"{name}: the caption is {captions!r}; give a text or a list of texts")
    data, suffix = load(image, folder, name)
    references = tuple(load(item, folder, name) for item in values.get("references") or ())
    mask = load(values["mask"], folder, f"{name}, mask")[0] if references and values.get("mask") else None
    return UserRow(name, data, suffix, tuple(map(plain, captions)), references, *rights(values), mask=mask)


def rights(values: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Licence, origin and opt-out of a table's line or a metadata object."""
    licence, origin = (next((str(values[key]) for key in keys if values.get(key)), "") for keys in (("licence", "license"), ("origin", "url", "source")))
    return plain(licence), plain(origin), str(values.get("opt_out") or "").lower() in TRUE


def first(values: Mapping[str, Any], keys: tuple[str, ...], name: str) -> Any:
    """The value of the first key that is given."""
    for key in keys:
        if values.get(key) is not None:
            return values[key]
    raise QI2Error(f"{name} has none of the keys {', '.join(keys)}; write for example {EXAMPLE}")


def load(image: Any, folder: Path, name: str) -> tuple[bytes, str]:
    """Bytes and suffix of a path, of raw bytes, or of the datasets library's {"bytes", "path"}; no bytes where a file cannot be read."""
    if isinstance(image, Mapping):
        if image.get("bytes") is not None:
            return bytes(image["bytes"]), Path(str(image.get("path") or "")).suffix
        image = image.get("path")
    if isinstance(image, bytes):
        return image, ""
    if not isinstance(image, str):
        raise QI2Error(f"{name}: the image is {type(image).__name__}; give a path or the file's bytes")
    return read(folder / image), Path(image).suffix


def read(file: Path) -> bytes:
    """A file's bytes; none where it is missing, no file, or cannot be read."""
    try:
        return file.read_bytes() if file.is_file() else b""
    except (OSError, ValueError):  # also a name with a null character
        return b""


def lines(text: bytes) -> tuple[str, ...]:
    """The captions of a text file, one a line, without empty ones; what is not UTF-8 is replaced."""
    return tuple(line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip())


def plain(text: str) -> str:
    """The text without half characters, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode()


def json_object(text: str | bytes, name: str) -> dict[str, Any]:
    """One JSON object; raises QI2Error that calls it ``name``."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise QI2Error(f"{name} is not JSON: {error}; write one object a line") from error
    if not isinstance(values, dict):
        raise QI2Error(f"{name} is not an object; write for example {EXAMPLE}")
    return values
