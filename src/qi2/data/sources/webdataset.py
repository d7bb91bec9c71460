"""Tar shards after the webdataset convention: files of one sample follow each other and share their name up to the first dot.

``KEY.jpg`` (or another image) is the picture, ``KEY.txt`` its captions, one a line, ``KEY.json`` an object with captions, licence, origin
and opt-out; ``KEY.ref0.png``, ``KEY.ref1.png`` ... are the references of an edit, ``KEY.mask.png`` says where it may change (white).
Nothing is unpacked to disk.
"""

import tarfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from qi2.core.errors import QI2Error
from qi2.data.sources.rows import CAPTION_KEYS, IMAGE_SUFFIXES, UserRow, json_object, lines, plain, rights

TARS = (".tar", ".tar.gz", ".tgz")


def shards(root: Path) -> list[Path]:
    """The tar files below a folder, in order."""
    return sorted(path for path in root.rglob("*") if path.name.lower().endswith(TARS) and path.is_file())


def read_shards(root: Path) -> Iterator[UserRow]:
    """All samples of all shards below a folder."""
    for path in shards(root):
        yield from read_tar(path)


def read_tar(path: Path) -> Iterator[UserRow]:
    """All samples of one shard; raises QI2Error where the archive is damaged, after the samples before."""
    key, parts = "", dict[str, bytes]()
    for name, data in _members(path):
        head, _, extension = PurePosixPath(name).name.partition(".")
        place = str(PurePosixPath(name).parent / head)
        if place != key or extension.lower() in parts:
            yield from _sample(path, key, parts)
            key, parts = place, {}
        parts[extension.lower()] = data
    yield from _sample(path, key, parts)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    last = "its beginning"
    try:
        with tarfile.open(path, "r|*", errors="replace") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                if file is not None:
                    last = member.name
                    yield plain(member.name), file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise QI2Error(f"{path} is damaged after {plain(last)}: {error}; fetch or write the shard again") from error


def _sample(path: Path, key: str, parts: dict[str, bytes]) -> Iterator[UserRow]:
    found = [extension for extension in parts if f".{extension}" in IMAGE_SUFFIXES]
    if not found:
        return
    name = f"{path}:{key}"
    values: dict[str, Any] = json_object(parts["json"], f"{name}.json") if "json" in parts else {}
    given: Any = next((values[field] for field in CAPTION_KEYS if values.get(field)), [])
    captions = lines(parts["txt"]) if "txt" in parts else tuple(plain(str(text)) for text in ([given] if isinstance(given, str) else given))
    references = tuple(_references(parts))
    mask = next((data for extension, data in parts.items() if references and extension.startswith("mask.")), None)
    yield UserRow(name, parts[found[0]], f".{found[0]}", captions, references, *rights(values), mask=mask)


def _references(parts: dict[str, bytes]) -> Iterator[tuple[bytes, str]]:
    for number in count():
        extension = next((name for name in parts if name.startswith(f"ref{number}.")), None)
        if extension is None:
            return
        yield parts[extension], f".{extension.partition('.')[2]}"
