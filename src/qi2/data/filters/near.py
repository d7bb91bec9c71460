"""Near-duplicates (report 2.3, stage 1): the same picture re-encoded, resized or slightly shifted. The best copy stays.

Candidates lie close together as coarse thumbnails (exact search); an aligned comparison decides (see ``alignment``). A row
is rejected only when a *kept* row is its near-duplicate, so that a chain of small differences never empties a cluster.
Search costs N^2 x 192 multiply-adds less what sorting along the main direction saves: seconds for 30k rows, core-minutes
for a million.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.data.curate_config import CurateConfig, StageThresholds
from qi2.data.filters.alignment import coarse, matches, thumbnail, unpack
from qi2.data.filters.base import TARGETS, Filter, Picture
from qi2.data.filters.exact import best_first, comparable

if TYPE_CHECKING:
    import pandas as pd

SLAB = 2048  # rows compared at once
ASPECT = 0.05  # largest difference of the logarithm of width / height


def measure(picture: Picture) -> dict[str, Any]:
    """Thumbnail bytes; needed only until duplicates are found, and not kept in the score table."""
    return {"thumbnail": thumbnail(picture.image)}


def close_pairs(points: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """All index pairs i < j whose root-mean-square distance over the columns is at most ``radius``; points (N, D)."""
    limit = radius * np.sqrt(points.shape[1])
    centred = points - points.mean(0)
    along = centred @ np.linalg.eigh(centred.T @ centred)[1][:, -1] if len(points) > SLAB else np.zeros(len(points))
    order = np.argsort(along, kind="stable")
    centred, along = centred[order], along[order]
    squares = (centred**2).sum(1)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(points), SLAB):
        stop = min(start + SLAB, len(points))
        end = int(np.searchsorted(along, along[stop - 1] + limit, side="right"))
        distance = squares[start:stop, None] + squares[None, start:end] - 2 * centred[start:stop] @ centred[start:end].T
        a, b = np.nonzero(distance <= limit**2 + 1e-6)
        later = b > a
        found.append((order[start + a[later]], order[start + b[later]]))
    first, second = _joined(found)
    return np.minimum(first, second), np.maximum(first, second)


def near_pairs(thumbnails: np.ndarray, aspect: np.ndarray, keys: np.ndarray, config: CurateConfig) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs of near-duplicates among thumbnails (N, 3, 32, 32) with log aspect ratios (N,); only equal ``keys`` compare."""
    points, order = coarse(thumbnails), np.argsort(keys, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    found = []
    for rows in groups:
        if len(rows) > 1:
            a, b = close_pairs(points[rows], config.near_radius)
            found.append((rows[a], rows[b]))
    first, second = _joined(found)
    same_form = np.abs(aspect[first] - aspect[second]) <= ASPECT
    first, second = first[same_form], second[same_form]
    near = matches(thumbnails, first, second, config.near_layout, config.near_detail)
    return first[near], second[near]


def duplicate_of(table: "pd.DataFrame", passes: np.ndarray, config: CurateConfig) -> np.ndarray:
    """For every row the id of the kept row that it nearly equals, or None. Exact duplicates are left out beforehand."""
    keys = comparable(table).where(table["exact_duplicate_of"].isna(), None)
    rows = np.flatnonzero(keys.notna())
    found = np.full(len(table), None, dtype=object)
    if not len(rows):
        return found
    part = table.iloc[rows]
    aspect = np.log(part["aspect"].to_numpy(float))
    first, second = near_pairs(unpack(list(part["thumbnail"])), aspect, np.unique(keys.iloc[rows].astype(str), return_inverse=True)[1], config)
    neighbours: dict[int, list[int]] = {}
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    ids, heldout = part["id"].to_numpy(), part["split"].to_numpy() == "heldout"
    kept: set[int] = set()
    for row in best_first(part, passes[rows]).tolist():
        same = next((other for other in neighbours.get(row, ()) if other in kept), None)
        if same is None or heldout[row]:
            kept.add(row)
        else:
            found[rows[row]] = ids[same]
    return found


def _joined(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    none = np.zeros(0, int)
    return np.concatenate([a for a, _ in pairs] or [none]), np.concatenate([b for _, b in pairs] or [none])


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return table["near_duplicate_of"].notna().to_numpy() & bool(limits.near_duplicates)


FILTER = Filter("near_duplicate", TARGETS, ("thumbnail",), _rejects, measure)
