"""A folder of images, each with its captions in a text file of the same name, one a line; an image without one has no caption."""

from collections.abc import Iterator
from pathlib import Path

from qi2.data.sources.rows import IMAGE_SUFFIXES, UserRow, lines, read


def images(root: Path) -> list[Path]:
    """All image files below a folder, in order."""
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def read_folder(root: Path) -> Iterator[UserRow]:
    """Every image below ``root``."""
    for file in images(root):
        yield UserRow(str(file), read(file), file.suffix, lines(read(file.with_suffix(".txt"))))
