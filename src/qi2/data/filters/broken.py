"""Broken files (report 2.3, stage 1): unreadable, truncated, or not the bytes that were recorded at ingest.

Pillow's ``verify`` accepts a JPEG that was cut in half, so every image is really decoded. ``verify`` is used in addition
for PNG, where it checks the chunk checksums that decoding skips. Damage inside a JPEG's scan is not detected.
"""

import hashlib
import io
import re
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from qi2.data.curate_config import MOST_PIXELS, StageThresholds
from qi2.data.filters.base import EVERY, Filter, Picture

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
ORIENTATION = 0x0112


class BrokenImageError(Exception):
    """The file cannot be used; the message is kept in the score column ``broken``."""


def decode(data: bytes, sha256: str | None = None, most: int = MOST_PIXELS) -> Picture:
    """Decode completely to upright RGB (transparency over white); raises BrokenImageError with the decoder's reason.

    A file of more than ``most`` pixels is refused by its header: a few kilobytes can decode to gigabytes.
    """
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise BrokenImageError("bytes differ from the recorded sha256")
    try:
        return _decode(data, most)
    except BrokenImageError:
        raise
    except Exception as error:  # decoders raise almost anything on damaged bytes
        reason = re.sub(r" ?<_io\.BytesIO[^>]*>", "", f"{type(error).__name__}: {error}")  # an address differs from run to run
        raise BrokenImageError(reason[:200]) from error


def _decode(data: bytes, most: int) -> Picture:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > most:
        raise BrokenImageError(f"{image.width} x {image.height} pixels are more than curate.max_pixels={most}; shrink the picture")
    if image.format == "PNG":
        Image.open(io.BytesIO(data), formats=("PNG",)).verify()
    image.load()
    tables = {index: list(table) for index, table in getattr(image, "quantization", {}).items()}
    orientation = int(image.getexif().get(ORIENTATION, 1)) if image.format in ("JPEG", "WEBP", "TIFF", "PNG") else 1
    upright = ImageOps.exif_transpose(image) if orientation != 1 else image
    return Picture(_rgb(upright), str(image.format), orientation, tables)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return table["broken"].notna().to_numpy()


FILTER = Filter("broken", EVERY, ("broken",), _rejects)
