"""What training the two curation models shares: its part of the recipe, and reading images, unreadable ones left out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.data.filters.broken import BrokenImageError, decode
from qi2.data.shards import read_bytes
from qi2.standins.config import StandinsConfig

if TYPE_CHECKING:
    import pandas as pd


class StandinsRecipe(Protocol):
    """The part of the recipe that training the stand-ins reads."""

    @property
    def seed(self) -> int: ...

    @property
    def standins(self) -> StandinsConfig: ...


def read_pixels(rows: "pd.DataFrame", raw: Path, most: int, processor: Any) -> tuple[Tensor, "pd.DataFrame"]:
    """uint8 (N, 3, S, S), resized and cropped by the model's own ``processor``, of at most ``most`` rows; and those rows.

    Raises QI2Error when fewer than two can be read.
    """
    chosen = spread(rows, most)
    images, kept = [], []
    for place, (shard, offset, length) in enumerate(zip(chosen["shard"], chosen["offset"], chosen["length"], strict=True)):
        try:
            image = decode(read_bytes(raw, {"shard": shard, "offset": offset, "length": length})).image
        except BrokenImageError:
            continue
        images.append(processor(image, do_rescale=False, do_normalize=False)["pixel_values"][0].astype(np.uint8))
        kept.append(place)
    if len(images) < 2:
        raise QI2Error(f"only {len(images)} of {len(chosen)} training images in {raw} can be read; check data.source and the ingest stage")
    return torch.from_numpy(np.stack(images)), chosen.iloc[kept]


def spread(rows: "pd.DataFrame", most: int) -> "pd.DataFrame":
    """At most ``most`` rows at even distances, in order."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))] if len(rows) else rows


def spread_by_kind(rows: "pd.DataFrame", most: int) -> "pd.DataFrame":
    """At most about ``most`` rows, as many of every kind as there are or as its equal share, so that rare kinds are not overlooked."""
    import pandas as pd

    groups = sorted((group for _, group in rows.groupby(rows["kind"].fillna(""))), key=len)
    taken, left = [], most
    for index, group in enumerate(groups):
        share = spread(group, max(1, left // (len(groups) - index)))
        taken.append(share)
        left -= len(share)
    return pd.concat(taken) if taken else rows
