"""Image quality (report 2.3, stage 4): sharpness, how much colours bend from pixel to pixel.

The channel that bends most counts: edges between colours of equal luminance are edges too.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import EVERY, Filter, Picture, outside

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 512  # px; lines of larger pictures are averaged over a whole number of pixels first, so that the figure is about visible detail


def measure(picture: Picture) -> dict[str, Any]:
    """``sharpness``, 0..255 scale: root of the mean squares of the second differences along rows and columns, added.

    Below about 4 a picture looks blurred.
    """
    factor = max(1, min(picture.image.size) // LARGEST)
    return {"sharpness": float(np.sqrt((_bend(picture.rows, factor) + _bend(picture.columns, factor)).max()))}


def _bend(lines: Image.Image, factor: int) -> np.ndarray:
    """Mean square of the second difference along rows, for each channel."""
    values = np.stack([np.asarray(band, np.int16) for band in (lines.reduce((factor, 1)) if factor > 1 else lines).split()])
    bend = (values[:, :, 2:] + values[:, :, :-2] - 2 * values[:, :, 1:-1]).astype(np.float32).reshape(3, -1)
    return np.einsum("cn,cn->c", bend, bend) / bend.shape[1] if bend.size else np.zeros(3)


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["sharpness"], limits.min_sharpness, None)


FILTER = Filter("quality", EVERY, ("sharpness",), _rejects, measure)
