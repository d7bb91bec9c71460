"""Aesthetic score (report 2.3, stage 4): a stand-in for a learned scorer, the colourfulness of Hasler and Suesstrunk (2003)."""

from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import TARGETS, Filter, Picture, outside

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 128  # px of the reduced picture that is measured


def measure(picture: Picture) -> dict[str, Any]:
    """``aesthetic``: 0 for gray pictures, about 30 for muted and above 80 for vivid ones."""
    factor = max(1, min(picture.image.size) // LARGEST)
    pixels = np.asarray(picture.image.reduce(factor) if factor > 1 else picture.image, dtype=np.float32)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    first, second = red - green, 0.5 * (red + green) - blue
    spread = np.hypot(first.std(), second.std())
    return {"aesthetic": float(spread + 0.3 * np.hypot(first.mean(), second.mean()))}


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["aesthetic"], limits.min_aesthetic, None)


FILTER = Filter("aesthetic", TARGETS, _rejects, measure)
