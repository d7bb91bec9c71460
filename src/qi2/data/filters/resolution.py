"""Resolution (report 2.3, stages 1, 3, 4, 5): the shorter side must reach the stage's smallest training side, and no side be far longer."""

from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import EVERY, Filter, Picture, outside

if TYPE_CHECKING:
    import pandas as pd


def measure(picture: Picture) -> dict[str, Any]:
    """Sides in pixels of the upright picture, and its width / height."""
    width, height = picture.image.size
    return {"short_side": min(width, height), "long_side": max(width, height), "aspect": width / height}


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    stretched = outside(table["long_side"] / table["short_side"], None, limits.max_aspect)
    return stretched | outside(table["short_side"], min(limits.sides) if limits.sides else None, None)


FILTER = Filter(
    "resolution",
    EVERY,
    (
        "short_side",
        "long_side",
        "aspect",
    ),
    _rejects,
    measure,
)
