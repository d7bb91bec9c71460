"""A look at a source before anything is made of it: what is there, and a sheet of its pictures."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from qi2.core.progress import Progress
from qi2.data.filters.broken import BrokenImageError, decode
from qi2.data.shards import header
from qi2.data.sources import UserRow, read_source

SIDE, GAP, TEXT, ACROSS = 160, 8, 30, 6  # px; pictures in a row


@dataclass
class Contents:
    """Counts over the rows of a source; ``short_sides`` in pixels, ``letters`` per caption."""

    rows: int = 0
    edits: int = 0
    masks: int = 0
    opted_out: int = 0
    without_caption: int = 0
    identical: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    short_sides: list[int] = field(default_factory=list)
    letters: list[int] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For reading."""
        return [
            f"rows            {self.rows}: {self.rows - self.edits} images, {self.edits} edits, {self.masks} of them with a mask",
            f"formats         {_counted(self.formats)}",
            f"shorter side    {_spread(self.short_sides)} px",
            f"captions        {_spread(self.letters)} letters; {self.without_caption} rows without one",
            f"identical files {self.identical}",
            f"licences        {_counted(self.licences)}",
            f"opted out       {self.opted_out}",
        ]


def inspect(source: str, cache: Path, limit: int, shown: int) -> tuple[Contents, Image.Image]:
    """Read at most ``limit`` rows (0: all) by their files' headers; the sheet has the first ``shown`` of them, decoded."""
    found, pictures = Contents(), list[UserRow]()
    seen: set[bytes] = set()
    with Progress("inspect", limit or 1, "row") as progress:
        for row in islice(read_source(source, cache), limit or None):
            _count(found, row, seen)
            if len(pictures) < shown:
                pictures.append(row)
            progress.total = limit or found.rows
            progress.update()
    return found, sheet(pictures)


def _count(found: Contents, row: UserRow, seen: set[bytes]) -> None:
    width, height, form = header(row.data)
    digest = hashlib.sha256(row.data).digest()
    found.rows += 1
    found.edits += bool(row.references)
    found.masks += row.mask is not None
    found.opted_out += row.opt_out
    found.without_caption += not row.captions
    found.identical += digest in seen
    found.formats[form or "unreadable"] += 1
    found.licences[row.licence or "none stated"] += 1
    found.short_sides += [min(width, height)] if form else []
    found.letters += map(len, row.captions)
    seen.add(digest)


def sheet(rows: list[UserRow]) -> Image.Image:
    """The rows' pictures with the beginnings of their captions; a grey square where one cannot be decoded."""
    down = max(1, -(-len(rows) // ACROSS))
    page = Image.new("RGB", (ACROSS * (SIDE + GAP) + GAP, down * (SIDE + TEXT + GAP) + GAP), "white")
    draw = ImageDraw.Draw(page)
    for index, row in enumerate(rows):
        x, y = GAP + index % ACROSS * (SIDE + GAP), GAP + index // ACROSS * (SIDE + TEXT + GAP)
        draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), fill=(225, 225, 225))
        try:
            picture = decode(row.data).image
        except BrokenImageError:
            draw.text((x + SIDE // 2, y + SIDE // 2), "cannot be read", fill=(160, 0, 0), anchor="mm")
        else:
            picture.thumbnail((SIDE, SIDE))
            page.paste(picture, (x + (SIDE - picture.width) // 2, y + (SIDE - picture.height) // 2))
        draw.text((x, y + SIDE + 2), (row.captions[0] if row.captions else "no caption")[:26], fill="black")
    return page


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(8)) or "none"


def _spread(values: list[int]) -> str:
    if not values:
        return "no"
    low, middle, high = (int(value) for value in np.percentile(values, [0, 50, 100]))
    return f"{low} to {high}, median {middle}"
