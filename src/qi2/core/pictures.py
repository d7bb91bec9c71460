"""Pictures under the hash of their bytes: stripped of everything but pixels, on the disk when ``keep`` returns, checked when read, erased when asked."""

import hashlib
import io
import os
import re
import struct
import time
import zlib
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageOps

from qi2.core.errors import QI2Error
from qi2.core.publish import write_file

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 12 << 20
MAX_PIXELS = 2304 * 2048  # the largest pictures that the report's models draw have 2048 x 2048
SHA256 = re.compile(r"[0-9a-f]{64}")


def plain(image: Image.Image) -> Image.Image:
    """Nothing but pixels: upright, over white, RGB, without text, profile, place or time."""
    upright = ImageOps.exif_transpose(image).convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
    return Image.frombytes("RGB", flat.size, flat.tobytes())


def png(image: Image.Image) -> bytes:
    """The plain picture as a PNG file's bytes."""
    buffer = io.BytesIO()
    plain(image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def decode(data: bytes, what: str, most_pixels: int = MAX_PIXELS, most_bytes: int = MAX_BYTES) -> Image.Image:
    """A picture that a stranger sent, as plain RGB; ``what`` names it in errors.

    Its header is read before any pixel: what claims too many is refused before it takes memory. Raises QI2Error for anything but a whole PNG, JPEG or WebP.
    """
    if len(data) > most_bytes:
        raise QI2Error(f"{what} has {len(data)} bytes; at most {most_bytes}")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > most_pixels:
                raise QI2Error(f"{what} has {image.width}x{image.height} pixels; at most {most_pixels} in all")
            image.load()
            return plain(image)
    except Image.DecompressionBombError as error:
        raise QI2Error(f"{what} has far too many pixels; at most {most_pixels} in all") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, MemoryError) as error:
        if isinstance(error, QI2Error):
            raise
        raise QI2Error(f"{what} is no whole PNG, JPEG or WebP picture ({type(error).__name__}); repair it or leave it out") from error


class Pictures:
    """``folder/ab/SHA256.png``, readable for its owner only."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def path(self, sha256: str) -> Path:
        """Where a picture is. Raises QI2Error for what is no hash: nothing else ever becomes part of a path."""
        if not SHA256.fullmatch(sha256):
            raise QI2Error(f"{sha256[:80]!r} is no picture's sha256 (64 hex digits)")
        return self.folder / sha256[:2] / f"{sha256}.png"

    def keep(self, image: Image.Image) -> str:
        """Store a picture and return its hash; the same pixels are stored once."""
        data = png(image)
        name = hashlib.sha256(data).hexdigest()
        path = self.path(name)
        if self.has(name):
            os.utime(path)  # `strays` counts from the last time that it was wanted
        else:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_file(path, data)
        return name

    def has(self, sha256: str) -> bool:
        """Whether the picture is there and whole."""
        try:
            return hashlib.sha256(self.path(sha256).read_bytes()).hexdigest() == sha256
        except OSError:
            return False

    def data(self, sha256: str) -> bytes:
        """The PNG file's bytes. Raises QI2Error where it is missing or damaged."""
        path = self.path(sha256)
        try:
            found = path.read_bytes()
        except OSError as error:
            raise QI2Error(f"picture {path} cannot be read ({error}); it was deleted, or belongs to another store") from error
        if hashlib.sha256(found).hexdigest() != sha256:
            raise QI2Error(f"picture {path} is damaged; restore it from a copy, or delete the signals that name it")
        return found

    def read(self, sha256: str) -> Image.Image:
        """The picture, loaded."""
        image = Image.open(io.BytesIO(self.data(sha256)))
        image.load()
        return image

    def erase(self, sha256: str) -> None:
        """Remove a picture, where it is there."""
        self.path(sha256).unlink(missing_ok=True)

    def strays(self, named: Set[str], older_s: float) -> list[Path]:
        """Files that nothing names and that were last wanted ``older_s`` seconds ago: left by a process that was killed before it named them."""
        before, found = time.time() - older_s, []
        for path in sorted(self.folder.glob("*/*")) + sorted(self.folder.glob("*/.*")):
            with suppress(OSError):
                if path.is_file() and not (path.suffix == ".png" and path.stem in named) and path.stat().st_mtime < before:
                    found.append(path)
        return sorted(set(found))
