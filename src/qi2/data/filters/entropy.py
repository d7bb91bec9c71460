"""Entropy band (report 2.3, stage 1): abnormally little or abnormally much information.

Two figures, because the luminance histogram of good photographs is as spread as that of noise: flat pictures have a low
entropy of the histogram, noise has a high entropy of the differences between neighbours.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import EVERY, Filter, Picture, outside

if TYPE_CHECKING:
    import pandas as pd


def bits(counts: np.ndarray) -> float:
    """Shannon entropy of a histogram in bits."""
    share = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(share * np.log2(share)).sum())


def measure(picture: Picture) -> dict[str, Any]:
    """``entropy``: luminance histogram, 0..8 bits; ``difference_entropy``: horizontal neighbour differences modulo 256, 0..8 bits."""
    luma = picture.luma_rows
    return {"entropy": bits(_histogram(luma)), "difference_entropy": bits(_histogram(luma[:, 1:] - luma[:, :-1]))}


def _histogram(values: np.ndarray) -> np.ndarray:
    """Counts of uint8 values; Pillow counts three times as fast as NumPy."""
    return np.array(Image.fromarray(values).histogram()) if values.size else np.zeros(256, int)


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    flat = outside(table["entropy"], limits.min_entropy, None)
    return flat | outside(table["difference_entropy"], None, limits.max_entropy)


FILTER = Filter(
    "entropy",
    EVERY,
    (
        "entropy",
        "difference_entropy",
    ),
    _rejects,
    measure,
)
