"""Image quality (report 2.3, stage 4): sharpness, how much colours bend from pixel to pixel.

All channels count: edges between colours of equal luminance are edges too.
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
    return {"sharpness": float(np.sqrt(_bend(picture.rows, factor) + _bend(picture.columns, factor)))}


def _bend(lines: Image.Image, factor: int) -> float:
    """Mean square of the second difference along rows."""
    values = np.asarray(lines.reduce((factor, 1)) if factor > 1 else lines).astype(np.int16)
    bend = values[:, 2:] + values[:, :-2]
    bend -= values[:, 1:-1]
    bend -= values[:, 1:-1]
    flat = bend.astype(np.float32).ravel()
    return float(flat @ flat) / len(flat) if len(flat) else 0.0


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["sharpness"], limits.min_sharpness, None)


FILTER = Filter("quality", EVERY, ("sharpness",), _rejects, measure)
