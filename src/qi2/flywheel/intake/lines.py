"""Feedback as a JSONL file beside its pictures: good lines are taken, bad ones are named by file and line."""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.pictures import MAX_BYTES, decode
from qi2.flywheel.intake.feedback import Feedback, take
from qi2.flywheel.store import SignalStore

MAX_LINE = 1 << 16  # bytes
KEYS = ("image", "references")


@dataclass
class Taken:
    """How many lines were new, and known before; what is wrong with the others."""

    new: int = 0
    known: int = 0
    bad: list[str] = field(default_factory=list)


def read_lines(path: Path, store: SignalStore, defaults: Mapping[str, str] | None = None) -> Taken:
    """Take a file ``{"image": "a.png", "prompt", "verdict", "why"?, "references"?, "consent"?, "subject"?, "model"?, "kind"?}``, one a line.

    ``defaults``: of what a line leaves out.
    Pictures lie beside the file or below. A line is taken whole or not at all, and taking a file again takes nothing twice. Raises QI2Error where the file
    itself cannot be read.
    """
    found, path = Taken(), Path(path)
    for number, line in _lines(path):
        try:
            row = {**(defaults or {}), **_row(line)}
            said = Feedback.of(row, KEYS)
            picture, *references = [_picture(path.parent, name) for name in (row["image"], *_names(row.get("references", [])))]
            receipt = take(store, said, picture, references, {"file": path.name, "line": number})
        except QI2Error as error:
            found.bad.append(f"{path}:{number}: {error}")
            continue
        if receipt.deleted:
            found.bad.append(f"{path}:{number}: was deleted before and is not taken again")
        found.new, found.known = found.new + receipt.new, found.known + (not receipt.new and not receipt.deleted)
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as handle:
            for number in itertools.count(1):
                line = rest = handle.readline(MAX_LINE + 1)
                if not line:
                    return
                while len(rest) >= MAX_LINE and not rest.endswith(b"\n"):  # what is too long is refused whole, and never held whole
                    rest = handle.readline(MAX_LINE)
                if line.strip():
                    yield number, line
    except OSError as error:
        raise QI2Error(f"{path} cannot be read ({error}); name a JSONL file of feedback") from error


def _row(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise QI2Error(f"the line is longer than {MAX_LINE} bytes; pictures are files, named in image")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise QI2Error("this is no JSON") from error
    if not isinstance(row, dict):
        raise QI2Error("a line is one JSON object")
    return row


def _names(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise QI2Error("references is a list of files")
    return value


def _picture(folder: Path, name: Any) -> Image.Image:
    """A picture in the file's folder; links and dots that lead out of it are refused."""
    if not isinstance(name, str) or not name:
        raise QI2Error(f"{str(name)[:60]!r} is no picture's name")
    try:
        path = (folder / name).resolve()
    except (ValueError, OSError, RuntimeError) as error:  # what no file can be called, or links in a circle
        raise QI2Error(f"{str(name)[:60]!r} is no picture's name") from error
    if not path.is_relative_to(folder.resolve()):
        raise QI2Error(f"{name[:200]} lies outside {folder}; keep the pictures beside the file")
    return read_picture(path, name[:200])


def read_picture(path: Path, name: str) -> Image.Image:
    """A picture's file, read defensively; ``name`` is what errors call it."""
    try:
        if not path.is_file():
            raise QI2Error(f"there is no picture {name}")
        with open(path, "rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise QI2Error(f"{name} cannot be read ({error.strerror})") from error
    return decode(data, name)
