"""A reference picture of a row: what it shows at a size, and the hash of exactly that.

The hash is of what a model is shown: of a file its bytes, of a drawn one its pixels. Where another version of the drawing code (or of Pillow) draws
another picture, the suite has another version, and results do not pass for comparable.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, ImageOps

from qi2.core.errors import QI2Error
from qi2.core.publish import file_sha256

UNSIZED = 64  # px at which a drawn reference is hashed where the suite leaves the size to the model


class Reference(Protocol):
    """``size``: pixels of the square picture that is asked for; 0 where that is not known yet."""

    def open(self, size: int) -> Image.Image: ...

    def hash(self, size: int) -> str: ...


@dataclass(frozen=True)
class FileReference:
    """An image file; it is what it is at every size."""

    path: Path

    def open(self, size: int) -> Image.Image:
        """The picture as its viewer shows it: turned as its camera says."""
        return ImageOps.exif_transpose(Image.open(self.path))

    def hash(self, size: int) -> str:
        """SHA-256 of the file."""
        return file_sha256(self.path)

    def check(self) -> str:
        """What is wrong with it, or nothing."""
        if not self.path.is_file():
            return f"there is no reference image {self.path}; paths are relative to the suite file"
        try:
            with Image.open(self.path) as image:
                image.verify()
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            return f"{self.path} cannot be read as an image ({error}); give a PNG, JPEG or WebP file"
        return ""


@dataclass(frozen=True)
class DrawnReference:
    """A picture that code draws: ``kind`` is a name of DRAWERS, ``values`` what that drawer takes."""

    kind: str
    values: Any

    def open(self, size: int) -> Image.Image:
        """The picture, RGB of ``size`` by ``size``."""
        from qi2.evaluation.suites.references.registry import DRAWERS

        return DRAWERS[self.kind](self.values, size or UNSIZED)

    def hash(self, size: int) -> str:
        """SHA-256 of the pixels."""
        return _pixel_hash(self.kind, json.dumps(self.values, sort_keys=True), size or UNSIZED)

    def check(self) -> str:
        """What is wrong with it, or nothing."""
        from qi2.evaluation.suites.references.registry import DRAWERS

        if self.kind not in DRAWERS:
            return f"a reference is drawn by one of {', '.join(DRAWERS)}, not by {self.kind!r}"
        try:
            self.hash(0)
        except (QI2Error, TypeError, ValueError, KeyError, AttributeError) as error:
            return f"the reference {self.kind}: {json.dumps(self.values)[:120]} cannot be drawn ({error})"
        return ""


@lru_cache(maxsize=8192)
def _pixel_hash(kind: str, text: str, size: int) -> str:
    image = DrawnReference(kind, json.loads(text)).open(size).convert("RGB")
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def reference_of(given: Any, folder: Path) -> FileReference | DrawnReference:
    """From a row: the name of a file beside the suite, or one drawer with its values, e.g. ``{photo: {file: chelsea.png}}``."""
    if isinstance(given, Mapping) and len(given) == 1:
        ((kind, values),) = given.items()
        return DrawnReference(str(kind), values)
    return FileReference(folder / str(given))
