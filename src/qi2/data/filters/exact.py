"""Exact duplicates (report 2.3, stage 1): the same pixels, whatever the file format. The best copy stays.

Pixels are the same when the sizes are and the averages over blocks that leave at least 64 px of the shorter side, to 8 bits: for
pictures below 128 px that is every pixel.

Only rows of one kind of sample compare: T2I rows with each other, edit pairs when their reference pictures are identical
too. References are inputs, not targets, and are never duplicates.
"""

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import IMAGE, PAIR, TARGETS, Filter, Picture

if TYPE_CHECKING:
    import pandas as pd


def measure(picture: Picture) -> dict[str, Any]:
    """Hash of the upright RGB picture's size and block averages."""
    digest = hashlib.sha256(repr(picture.image.size).encode())
    digest.update(picture.small.tobytes())
    return {"pixel_sha256": digest.hexdigest()}


def comparable(table: "pd.DataFrame") -> "pd.Series":
    """A key per row; only rows with equal keys may be duplicates of each other. Null: never a duplicate."""
    import pandas as pd

    hashes = dict(zip(table["id"], table["pixel_sha256"], strict=True))
    keys = [
        "" if role == IMAGE else "|".join(str(hashes.get(name)) for name in references) if role == PAIR else None
        for role, references in zip(table["role"], table["references"], strict=True)
    ]
    return pd.Series(keys, index=table.index, dtype=object).where(table["pixel_sha256"].notna(), None)


def best_first(table: "pd.DataFrame", passes: np.ndarray) -> np.ndarray:
    """Row positions from best to worst copy: held-out, passing the other filters, more pixels, better JPEG, id."""
    pixels = (table["short_side"] * table["long_side"]).fillna(0).to_numpy(float)
    quality = table["jpeg_quality"].fillna(0).to_numpy(float)
    order = np.lexsort((table["id"].to_numpy().astype(str), -quality, -pixels, ~passes, table["split"].to_numpy() != "heldout"))
    return np.asarray(order)


def duplicate_of(table: "pd.DataFrame", passes: np.ndarray) -> np.ndarray:
    """For every row the id of the identical row that is kept instead, or None; ``passes`` marks rows other filters accept."""
    keys = comparable(table).to_numpy()
    found = np.full(len(table), None, dtype=object)
    kept: dict[tuple[str, str], str] = {}
    ids, pixels, heldout = table["id"].to_numpy(), table["pixel_sha256"].to_numpy(), table["split"].to_numpy() == "heldout"
    for row in best_first(table, passes):
        if keys[row] is None:
            continue
        first = kept.setdefault((keys[row], pixels[row]), ids[row])
        if first != ids[row] and not heldout[row]:
            found[row] = first
    return found


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return table["exact_duplicate_of"].notna().to_numpy() & bool(limits.exact_duplicates)


FILTER = Filter("exact_duplicate", TARGETS, ("pixel_sha256",), _rejects, measure)
