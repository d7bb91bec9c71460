"""Rotation (report 2.3, stage 1: "corrects or discards"): pictures whose EXIF data says that they are not upright.

With ``rotation: correct`` they stay, and everything here and every reader sees them turned upright.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import EVERY, Filter, Picture

if TYPE_CHECKING:
    import pandas as pd


def measure(picture: Picture) -> dict[str, Any]:
    """EXIF orientation, 1 (upright) to 8."""
    return {"orientation": picture.orientation}


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    rotated = table["orientation"].fillna(1).to_numpy() != 1
    return rotated if limits.rotation == "reject" else np.zeros(len(table), bool)


FILTER = Filter("rotation", EVERY, ("orientation",), _rejects, measure)
