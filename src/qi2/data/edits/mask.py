"""The change mask in a sidecar's ``region`` column: JSON of a zlib-compressed 64x64 grid of bits, and the older forms.

Of a mask that a user gave and that cannot be used, the column says why, and curation rejects the row for it.
"""

import base64
import io
import json
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from qi2.core.errors import QI2Error
from qi2.data.world.scene import Cell

GRID = 64
UNUSABLE = "unusable"  # key of the reason
HALF = 128  # from this grey on a given mask says that a pixel may change
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
ORIENTATION = 0x0112


def encode_mask(mask: Image.Image) -> str:
    """JSON text of a mask (L); a cell of the grid is marked when any pixel that it touches may change (is not 0)."""
    marked = _or_rows(_or_rows(np.asarray(mask) > 0, GRID).T, GRID).T
    bits = base64.b64encode(zlib.compress(np.packbits(marked).tobytes(), 9)).decode()
    return json.dumps({"grid": [GRID, GRID], "mask": bits}, separators=(",", ":"))


def decode_mask(region: str | None, size: tuple[int, int], grid: Cell = (2, 2)) -> Image.Image:
    """The mask (L, 255 = may change) of a region column at ``size``; a pixel is marked when any marked cell touches it.

    None, ``"background"`` and ``"all"`` mean that everything may change; a list of [row, col] marks cells of ``grid`` (the scene's).
    Raises QI2Error for anything else.
    """
    try:
        marked = _marked(json.loads(region) if region else "background", grid)
    except (ValueError, TypeError, KeyError, IndexError, zlib.error) as error:
        raise QI2Error(
            f"region {str(region)[:60]!r} is no mask of edits/mask.py, no list of cells of a {grid} grid, not background and not all: {error}"
        ) from error
    return Image.fromarray(np.where(_or_rows(_or_rows(marked, size[1]).T, size[0]).T, 255, 0).astype(np.uint8))


def given_region(mask: bytes, target: bytes) -> str | None:
    """The region column of a mask file for an edit's target file: white (or transparent) may change, both are taken upright.

    None where the target cannot be read, which curation reports; else, where the mask cannot be used, JSON with the reason.
    """
    try:
        size = _upright_size(target)
    except Exception:  # decoders raise almost anything on damaged bytes
        return None
    try:
        own = _upright_size(mask)
        picture = _mask_of(mask) if own == size else None  # of another size it is not even decoded
    except Exception as error:
        return _unusable(f"the mask is no picture that can be read ({type(error).__name__})" if mask else "the mask's file is missing or empty")
    if picture is None:
        return _unusable("the mask has {} x {} pixels and its picture {} x {}; give both the same size".format(*own, *size))
    if picture.getbbox() is None:
        return _unusable("the mask has no white pixel, so nothing may change; make white what may")
    return encode_mask(picture)


def unusable(region: str | None) -> str | None:
    """Why a row's given mask cannot be used; None where it can, and where none was given."""
    return json.loads(region)[UNUSABLE] if region and region.startswith(f'{{"{UNUSABLE}"') else None


def _unusable(reason: str) -> str:
    return json.dumps({UNUSABLE: reason})


def _upright_size(data: bytes) -> tuple[int, int]:
    """By the header alone."""
    with Image.open(io.BytesIO(data)) as image:
        return (image.height, image.width) if image.getexif().get(ORIENTATION) in TURNED else image.size


def _mask_of(data: bytes) -> Image.Image:
    """L, 255 where the picture is light."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        layers = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    return upright.convert("L").point(lambda grey: 255 if grey >= HALF else 0)


def _marked(value: Any, grid: Cell) -> np.ndarray:
    """bool (rows, columns)."""
    if value in ("background", "all"):
        return np.ones((1, 1), bool)
    if isinstance(value, dict):
        rows, columns = value["grid"]
        bits = np.frombuffer(zlib.decompress(base64.b64decode(value["mask"])), np.uint8)
        return np.unpackbits(bits)[: rows * columns].reshape(rows, columns).astype(bool)
    marked = np.zeros(grid, bool)
    for row, column in value:
        marked[row, column] = True
    return marked


def _or_rows(values: np.ndarray, count: int) -> np.ndarray:
    """``count`` rows over the same extent, each true where any row that it overlaps is."""
    edges = np.arange(count + 1) * len(values)
    starts, ends = edges[:-1] // count, -(-edges[1:] // count)
    sums = np.concatenate([np.zeros((1, values.shape[1]), int), np.cumsum(values, axis=0)])
    return np.asarray(sums[ends] > sums[starts])
