"""How a stage's rows are trained on: the largest side that a picture fills, its aspect bucket there, and how often it is drawn.

The buckets are those of `qi2.data.aspect`. The weights realise the ratio of T2I to TI2I of Table 2: drawing rows by them gives that mixture
whatever the counts.
"""

from typing import TYPE_CHECKING

import numpy as np

from qi2.data.aspect import STEP, bucket
from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import IMAGE, PAIR
from qi2.data.stages import sides_filled

if TYPE_CHECKING:
    import pandas as pd


def bucket_columns(kept: "pd.DataFrame", limits: StageThresholds) -> dict[str, list[str] | np.ndarray]:
    """``side`` in px (0: fills none), ``bucket`` as WIDTHxHEIGHT, ``weight`` (sums to 1; 0 for references) of a stage's kept rows."""
    turned = kept["orientation"].to_numpy(float) >= 5  # EXIF: width and height change places
    width, height = kept["width"].to_numpy(int), kept["height"].to_numpy(int)
    width, height = np.where(turned, height, width), np.where(turned, width, height)
    sides = sides_filled(kept["short_side"], limits)
    boxes = [bucket(side or STEP, wide / high) for side, wide, high in zip(sides.tolist(), width.tolist(), height.tolist(), strict=True)]
    return {"side": sides, "bucket": [f"{wide}x{high}" for wide, high in boxes], "weight": weights(kept["role"].to_numpy(), limits.ti2i_share or 0.0)}


def weights(role: np.ndarray, ti2i_share: float) -> np.ndarray:
    """Draw probability per row: edits share ``ti2i_share`` evenly, images the rest; where one of the two is missing, the other has all."""
    images, pairs = role == IMAGE, role == PAIR
    share = ti2i_share if images.any() else 1.0
    share = share if pairs.any() else 0.0
    return np.where(images, (1 - share) / max(images.sum(), 1), np.where(pairs, share / max(pairs.sum(), 1), 0.0))
