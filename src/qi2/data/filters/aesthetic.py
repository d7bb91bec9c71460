"""Aesthetic score (report 2.3, stage 4): a stand-in for a learned scorer, the colourfulness of Hasler and Suesstrunk (2003)."""

from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import TARGETS, Filter, Picture, outside

if TYPE_CHECKING:
    import pandas as pd


def measure(picture: Picture) -> dict[str, Any]:
    """``aesthetic``: 0 for gray pictures, about 30 for muted and above 80 for vivid ones."""
    red, green, blue = (np.asarray(band, dtype=np.float32).ravel() for band in picture.small.split())
    opponents = red - green, (red + green) / 2 - blue
    mean = [float(values.mean()) for values in opponents]
    variance = [max(float(values @ values) / len(values) - middle**2, 0.0) for values, middle in zip(opponents, mean, strict=True)]
    return {"aesthetic": float(np.sqrt(sum(variance)) + 0.3 * np.hypot(mean[0], mean[1]))}


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["aesthetic"], limits.min_aesthetic, None)


FILTER = Filter("aesthetic", TARGETS, ("aesthetic",), _rejects, measure)
