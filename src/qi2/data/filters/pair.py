"""Consistency of editing pairs: what should change changes, what should stay stays, and both pictures have something to do with each other.

Judged by the 32x32 thumbnails that duplicates are found with, so it costs no decode. The report (2.1) names the edits, not their checks; all of
this is ours. Kinds that we make and know to be too faint for thumbnails, or to share nothing between the pictures, are exempt from what they
cannot pass; a user's kinds are not.
"""

from typing import TYPE_CHECKING

import numpy as np

from qi2.data.curate_config import StageThresholds
from qi2.data.edits.base import NOTHING
from qi2.data.edits.mask import decode_mask
from qi2.data.edits.registry import OPERATIONS
from qi2.data.filters.alignment import SIDE, unpack
from qi2.data.filters.base import PAIR, Filter, outside
from qi2.data.world.edits import FAMILIES
from qi2.data.world.scene import Scene

if TYPE_CHECKING:
    import pandas as pd

ASPECT = 0.05  # largest difference of the logarithm of width / height between pictures that are compared place by place
LEAST = 16  # cells of the thumbnail that must stay, for a mean over them to say anything
BINS = 4  # per channel, of the colour histogram
FAINT = {name for name, operation in OPERATIONS.items() if operation.faint} | {"restore", "text_recolour"}
UNLIKE = {name for name, operation in OPERATIONS.items() if operation.shares == NOTHING}
UNLIKE |= {name for name, family in FAMILIES.items() if family in ("structure", "reference", "subject")}


def pair_columns(table: "pd.DataFrame") -> dict[str, np.ndarray]:
    """``pair_change``: largest difference 0..1 of any place that may change; ``pair_outside``: mean difference 0..1 of those that may not;
    ``pair_similarity`` 0..1: the better one of layout and colours in common with any reference. NaN where it does not apply.

    table: sidecar and score columns with ``thumbnail``, of all rows.
    """
    found = {name: np.full(len(table), np.nan) for name in ("pair_change", "pair_outside", "pair_similarity")}
    place = {name: row for row, name in enumerate(table["id"])}
    thumbnails, aspect = table["thumbnail"].to_numpy(object), np.log(table["aspect"].to_numpy(float))
    kinds, regions, scenes, references = (table[name].to_numpy(object) for name in ("kind", "region", "scene", "references"))
    for row in np.flatnonzero((table["role"] == PAIR).to_numpy() & table["thumbnail"].notna().to_numpy()):
        others = [place[name] for name in references[row] if name in place and thumbnails[place[name]] is not None]
        if not others:
            continue
        target, *given = unpack([thumbnails[row], *(thumbnails[other] for other in others)]).astype(np.float32) / 255
        if kinds[row] not in UNLIKE:
            found["pair_similarity"][row] = max(similarity(target, picture) for picture in given)
        if abs(aspect[row] - aspect[others[0]]) > ASPECT:
            continue
        difference = np.abs(target - given[0]).max(0)
        changes = _may_change(regions[row], scenes[row])
        if kinds[row] not in FAINT:
            found["pair_change"][row] = difference[changes].max()
        if (~changes).sum() >= LEAST:
            found["pair_outside"][row] = difference[~changes].mean()
    return found


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """0..1 for pictures (3, H, W) of 0..1: the correlation of their luminance, or what their colour histograms have in common."""
    first, second = (picture.mean(0) - picture.mean() for picture in (one, other))
    layout = float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum() + 1e-9))
    return max(layout, float(np.minimum(_histogram(one), _histogram(other)).sum()))


def _histogram(picture: np.ndarray) -> np.ndarray:
    levels = np.minimum((picture * BINS).astype(int), BINS - 1)
    return np.bincount((levels[0] * BINS + levels[1]).ravel() * BINS + levels[2].ravel(), minlength=BINS**3) / levels[0].size


def _may_change(region: str | None, scene: str | None) -> np.ndarray:
    """bool (32, 32): the region and one cell around it, which the thumbnail blurs into."""
    grid = Scene.from_json(scene).grid if scene and region and region.startswith("[") else (2, 2)
    marked = np.pad(np.asarray(decode_mask(region, (SIDE, SIDE), grid)) > 0, 1)
    return np.logical_or.reduce([marked[y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3)])


def _unchanged(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["pair_change"], limits.min_pair_change, None)


def _spill(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["pair_outside"], None, limits.max_pair_outside)


def _unrelated(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["pair_similarity"], limits.min_pair_similarity, None)


UNCHANGED = Filter("pair_unchanged", (PAIR,), (), _unchanged)
SPILL = Filter("pair_spill", (PAIR,), (), _spill)
UNRELATED = Filter("pair_unrelated", (PAIR,), (), _unrelated)
