"""Image quality (report 2.3, stage 4): sharpness, the standard deviation of the Laplacian.

The channel with the most counts: edges between colours of equal luminance are edges too.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import EVERY, Filter, Picture, outside

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 512  # px; larger pictures are reduced by a whole factor first, so that the figure is about visible detail


def measure(picture: Picture) -> dict[str, Any]:
    """``sharpness``, 0..255 scale; below about 4 a picture looks blurred."""
    factor = max(1, min(picture.image.size) // LARGEST)
    source = np.asarray(picture.image.reduce(factor)) if factor > 1 else picture.pixels
    if min(source.shape[:2]) < 3:
        return {"sharpness": 0.0}
    pixels = source.astype(np.float32)
    around = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
    laplacian = (around - 4 * pixels[1:-1, 1:-1]).reshape(-1, 3)
    variance = np.einsum("nc,nc->c", laplacian, laplacian) / len(laplacian) - laplacian.mean(0) ** 2
    return {"sharpness": float(np.sqrt(max(variance.max(), 0.0)))}


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["sharpness"], limits.min_sharpness, None)


FILTER = Filter("quality", EVERY, ("sharpness",), _rejects, measure)
