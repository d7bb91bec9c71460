"""What a filter is: scores measured once per image, and a threshold applied per training stage.

A row plays one of three roles: ``image`` (a T2I target), ``pair`` (the target of an edit, with references), or
``reference`` (an input picture of a pair, never a target itself).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from qi2.data.curate_config import StageThresholds

if TYPE_CHECKING:
    import pandas as pd

IMAGE, PAIR, REFERENCE = "image", "pair", "reference"
TARGETS = (IMAGE, PAIR)
EVERY = (IMAGE, PAIR, REFERENCE)
SMALL = 64  # px
SAMPLE = 1 << 14  # pixels


@dataclass(frozen=True)
class Picture:
    """One decoded image, upright, with what its file said; derived forms are computed once, when first asked for.

    Filters look at ``small``, ``rows`` and ``columns``: on large pictures, going through all pixels once more costs a third of a decode.
    """

    image: Image.Image  # RGB, turned upright
    format: str
    orientation: int  # EXIF, 1..8; 1 is upright
    tables: dict[int, list[int]]  # JPEG quantisation tables; empty for other formats

    @cached_property
    def small(self) -> Image.Image:
        """RGB, reduced by a whole factor (averages over blocks) to a shorter side of ``SMALL`` to twice that; smaller pictures as they are."""
        factor = max(1, min(self.image.size) // SMALL)
        return self.image.reduce(factor) if factor > 1 else self.image

    @cached_property
    def rows(self) -> Image.Image:
        """RGB, as many whole rows at even distances as make ``SAMPLE`` pixels or up to twice as many; all rows where there are fewer."""
        width, height = self.image.size
        return _lines(self.image, (width, _count(height, width)))

    @cached_property
    def columns(self) -> Image.Image:
        """The same of columns, turned so that they lie as rows."""
        width, height = self.image.size
        return _lines(self.image, (_count(width, height), height)).transpose(Image.Transpose.TRANSPOSE)

    @cached_property
    def luma_rows(self) -> np.ndarray:
        """Luminance of ``rows``, uint8 (rows, W)."""
        return np.asarray(self.rows.convert("L"))

    @cached_property
    def luma_columns(self) -> np.ndarray:
        """Luminance of ``columns``, uint8 (columns, H)."""
        return np.asarray(self.columns.convert("L"))


def _count(lines: int, length: int) -> int:
    """How many of so many lines of this length to look at."""
    return lines // max(1, lines // -(-SAMPLE // length))


def _lines(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if size == image.size else image.resize(size, Image.Resampling.NEAREST)


class Scorer(Protocol):
    """A filter's model, loaded once per process.

    ``roles``: the rows whose captions it reads; empty for a model that looks at the picture alone and runs once per file.
    ``columns``: what it alone fills; rows that it does not see have none of them, whatever a filter measured under that name.
    """

    @property
    def roles(self) -> tuple[str, ...]: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    def score(self, images: list[Image.Image], captions: list[list[str]]) -> dict[str, np.ndarray]:
        """Columns of one value per picture: numbers, NaN where the score does not apply (no caption), or bytes."""
        ...


@dataclass(frozen=True)
class Filter:
    """One operator. ``name`` is the reason recorded for a rejected row, ``columns`` are the scores that it is about.

    ``measure`` gives columns from one picture; ``rejects`` reads columns and a stage's thresholds and marks bad rows.
    """

    name: str
    roles: tuple[str, ...]
    columns: tuple[str, ...]
    rejects: "Callable[[pd.DataFrame, StageThresholds], np.ndarray]"
    measure: Callable[[Picture], dict[str, Any]] | None = None


def outside(values: "pd.Series", low: float | None, high: float | None) -> np.ndarray:
    """Rows whose value lies outside [low, high]; missing values and missing limits reject nothing."""
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    below = numbers < low if low is not None else np.zeros(len(numbers), bool)
    above = numbers > high if high is not None else np.zeros(len(numbers), bool)
    return np.asarray(below | above)
