"""Compression quality (report 2.3, stage 4): heavily compressed pictures, by what the file says and by what the pixels show.

The quantisation tables give the quality of a JPEG; blockiness also finds a bad JPEG that was saved again in another format.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import TARGETS, Filter, Picture, outside

if TYPE_CHECKING:
    import pandas as pd

LOW = (0, 1, 2, 3, 8, 9, 10, 11)  # low frequencies of a table, which are not cut off at 255 until quality 4
STANDARD_SUM = 110  # of these in the luminance table of the JPEG standard, annex K.1 (quality 50)
BLOCK = 8


def jpeg_quality(tables: dict[int, list[int]]) -> int:
    """The libjpeg quality 1..100 with the same low frequencies in its luminance table; 100 without tables (lossless formats)."""
    if not tables:
        return 100
    luminance = tables[min(tables)]
    scale = 100 * sum(luminance[index] for index in LOW) / STANDARD_SUM
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return int(np.clip(round(quality), 1, 100))


def blockiness(rows: np.ndarray, columns: np.ndarray) -> float:
    """How much larger steps across 8-pixel block borders are than other steps, 0..1, the smaller of both directions.

    Drawn edges that happen to lie on the grid mostly run in one direction; block artefacts run in both. Luminance, uint8 (N, length).
    """
    return min(_excess(rows), _excess(columns))


def _excess(lines: np.ndarray) -> float:
    values = lines.astype(np.int16)
    steps = np.abs(values[:, 1:] - values[:, :-1]).mean(axis=0, dtype=np.float32)
    border = steps[BLOCK - 1 :: BLOCK]
    if not len(border) or len(border) == len(steps):
        return 0.0
    at, total = float(border.mean()), float(steps.sum())
    between = (total - float(border.sum())) / (len(steps) - len(border))
    return max(0.0, (at - between) / (at + between + 1.0))


def measure(picture: Picture) -> dict[str, Any]:
    """``jpeg_quality`` 1..100 and ``blockiness`` 0..1."""
    return {"jpeg_quality": jpeg_quality(picture.tables), "blockiness": blockiness(picture.luma_rows, picture.luma_columns)}


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    low = outside(table["jpeg_quality"], limits.min_quality, None)
    return low | outside(table["blockiness"], None, limits.max_blockiness)


FILTER = Filter(
    "compression",
    TARGETS,
    (
        "jpeg_quality",
        "blockiness",
    ),
    _rejects,
    measure,
)
