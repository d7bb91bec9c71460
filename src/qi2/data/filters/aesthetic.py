"""Aesthetic score (report 2.3, stage 4): a stand-in for a learned scorer, the colourfulness of Hasler and Suesstrunk (2003)."""

from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import TARGETS, Filter, Picture, outside

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 128  # px of the reduced picture that is measured
OPPONENT = np.array([[1, 0.5], [-1, 0.5], [0, -1]], np.float32)  # RGB to red-green and yellow-blue


def measure(picture: Picture) -> dict[str, Any]:
    """``aesthetic``: 0 for gray pictures, about 30 for muted and above 80 for vivid ones."""
    factor = max(1, min(picture.image.size) // LARGEST)
    source = np.asarray(picture.image.reduce(factor)) if factor > 1 else picture.pixels
    opponents = source.reshape(-1, 3).astype(np.float32) @ OPPONENT
    mean = opponents.mean(0)
    variance = np.maximum(np.einsum("nc,nc->c", opponents, opponents) / len(opponents) - mean**2, 0)
    return {"aesthetic": float(np.sqrt(variance.sum()) + 0.3 * np.hypot(*mean))}


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["aesthetic"], limits.min_aesthetic, None)


FILTER = Filter("aesthetic", TARGETS, ("aesthetic",), _rejects, measure)
