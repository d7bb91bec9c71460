"""The change mask in a sidecar's ``region`` column: JSON of a zlib-compressed 64x64 grid of bits, and the older forms."""

import base64
import json
import zlib
from typing import Any

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world.scene import Cell

GRID = 64


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
