"""Consistency of editing pairs: what should change does, what should stay does, and both pictures belong together.

The report wants edit data that is consistent but names no operator (2.1, 2.3, stage 2); these are ours. All is read from the
thumbnails that near-duplicate detection keeps anyway, so it costs no decode: changes finer than a 32nd of the picture are not seen,
and kinds whose change may be that fine are not asked for one. A pair whose given mask cannot be used is rejected rather than taken
without it: its user said that not everything may change.
"""

import json
from typing import TYPE_CHECKING

import numpy as np

from qi2.data.curate_config import StageThresholds
from qi2.data.edits.base import COLOURS, LAYOUT, NOTHING
from qi2.data.edits.mask import decode_mask, unusable
from qi2.data.edits.registry import OPERATIONS
from qi2.data.filters.alignment import SIDE, planes
from qi2.data.filters.base import PAIR, Filter, outside
from qi2.data.filters.stored import Blobs, blocks
from qi2.data.world.edits import FAMILIES
from qi2.data.world.scene import Cell

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("pair_change", "pair_outside", "pair_similarity")
CHUNK = 2048  # pairs at once
READ = 1 << 15  # and whose thumbnails are held: 200 MB
ASPECT = 0.05  # largest difference of the logarithm of width / height at which places in both pictures correspond
FLAT = 1e-3  # standard deviation of edges below which a picture has none
BINS = 4  # per channel of the colour histogram
EITHER = "either"
UNLIKE = ("structure", "reference", "subject")  # families of the world's edits whose pictures share nothing
SHARES = {
    "background": LAYOUT,
    **{kind: NOTHING for kind, family in FAMILIES.items() if family in UNLIKE},
    **{kind: operation.shares for kind, operation in OPERATIONS.items()},
}  # all other kinds: either
FAINT = frozenset(kind for kind, operation in OPERATIONS.items() if operation.faint) | {"restore"}


def columns(table: "pd.DataFrame", thumbnails: Blobs) -> "pd.DataFrame":
    """``COLUMNS`` for every row, indexed like ``table`` (role, id, kind, references, region, scene, aspect).

    ``pair_change``: the largest mean difference over 3x3 thumbnail pixels between an edit and its first reference where the edit may
    change, 0..1. ``pair_outside``: the same where it may not, at least one thumbnail pixel from the border. ``pair_similarity``: of
    edits that may change everywhere, the correlation of edges (-1..1) or the overlap of colour histograms (0..1), or the larger one,
    as the kind asks. NaN where a figure does not apply, as at all rows that are no pairs.
    """
    import pandas as pd

    values = np.full((len(table), len(COLUMNS)), np.nan)
    for pairs in blocks(_pairs(table, thumbnails.given), READ):
        held = zip(blocks(pairs, CHUNK), *(blocks(thumbnails.take(rows), CHUNK) for rows in pairs.T), strict=True)
        for part, after, before in held:
            values[part[:, 0]] = _measure(table.iloc[part[:, 0]], table["aspect"].iloc[part[:, 1]], planes(after), planes(before))
    return pd.DataFrame(values, index=table.index, columns=list(COLUMNS))


def _pairs(table: "pd.DataFrame", given: np.ndarray) -> np.ndarray:
    """(P, 2): positions of edits and of their first references, where both were decoded and the mask can be used."""
    place = {name: row for row, name in enumerate(table["id"]) if given[row]}
    names = table["references"].to_numpy()
    edits = np.flatnonzero((table["role"] == PAIR).to_numpy() & given & ~_without_mask(table))
    rows = [row for row in edits if len(names[row]) and names[row][0] in place]
    return np.array([(row, place[names[row][0]]) for row in rows], int).reshape(-1, 2)


def _measure(edits: "pd.DataFrame", aspect: "pd.Series", after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(P, 3): the columns of pairs, of which references have this ``aspect``, from both thumbnails (P, 3, 32, 32)."""
    after, before = (part.astype(np.float32) / 255 for part in (after, before))
    difference = np.abs(after - before).mean(1)
    change = np.stack([_mask(*row) for row in zip(edits["region"], edits["scene"], strict=True)])
    keep = ~_grown(change)
    keep &= (np.abs(np.log(edits["aspect"].to_numpy(float) / aspect.to_numpy(float))) <= ASPECT)[:, None, None]
    bound = keep.any((1, 2))
    faint = edits["kind"].isin(FAINT).to_numpy()
    shares = np.array([SHARES.get(kind, EITHER) for kind in edits["kind"]])
    return np.stack(
        [
            np.where(faint, np.nan, _local(difference * change).max((1, 2))),
            np.where(bound, _local(difference * keep).max((1, 2)), np.nan),
            np.where(bound, np.nan, similarity(after, before, shares)),
        ],
        axis=1,
    )


def similarity(after: np.ndarray, before: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """What pictures (P, 3, 32, 32; 0..1) have in common by what their kind ``shares``; NaN where that is nothing."""
    layout, colours = _edge_correlation(after, before), _colour_overlap(after, before)
    chosen = np.select([shares == LAYOUT, shares == COLOURS, shares == EITHER], [layout, colours, np.fmax(layout, colours)], np.nan)
    return np.where(shares == NOTHING, np.nan, chosen)


def _mask(region: str | None, scene: str | None) -> np.ndarray:
    """bool (32, 32): which thumbnail pixels may change."""
    grid: Cell = tuple(json.loads(scene).get("grid", (2, 2))) if scene else (2, 2)
    return np.asarray(decode_mask(region, (SIDE, SIDE), grid)) > 0


def _grown(masks: np.ndarray) -> np.ndarray:
    """Masks (P, 32, 32) and the pixels beside them: thumbnails do not cut pixels exactly."""
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    rows = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    return np.asarray(rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:])


def _local(values: np.ndarray) -> np.ndarray:
    """Means over 3x3 neighbours of (P, 32, 32), the picture's rim repeated."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return np.asarray((rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9)


def _edge_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation (P,) of where edges are, whatever their colours; NaN where a picture has none."""
    one, two = _edges(first), _edges(second)
    scale = one.std(1) * two.std(1)
    product = ((one - one.mean(1, keepdims=True)) * (two - two.mean(1, keepdims=True))).mean(1)
    return np.where((one.std(1) > FLAT) & (two.std(1) > FLAT), product / np.maximum(scale, FLAT**2), np.nan)


def _edges(images: np.ndarray) -> np.ndarray:
    """(P, 1024): the steepest channel's slope."""
    down, right = np.gradient(images, axis=(2, 3))
    return np.asarray(np.hypot(down, right).max(1).reshape(len(images), -1))


def _colour_overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Overlap (P,) of the colour histograms, 0..1; each pixel counts as its nearest of 4x4x4 colours and a little as their neighbours."""
    one, two = _histograms(first), _histograms(second)
    return np.asarray(np.minimum(one, two).sum(1))


def _histograms(images: np.ndarray) -> np.ndarray:
    """(P, 64): soft counts, which sum to 1."""
    centres = np.arange(BINS, dtype=np.float32) / (BINS - 1)
    weights = np.clip(1 - np.abs(images[..., None] - centres) * (BINS - 1), 0, 1).reshape(len(images), 3, -1, BINS)
    red, green, blue = weights[:, 0], weights[:, 1], weights[:, 2]
    counts = np.einsum("pna,pnb,pnc->pabc", red, green, blue, optimize=True)
    return np.asarray(counts.reshape(len(images), -1) / images[0, 0].size)


def _without_mask(table: "pd.DataFrame") -> np.ndarray:
    """Edits with a mask that cannot be used."""
    found = np.zeros(len(table), bool)
    rows = np.flatnonzero((table["role"] == PAIR).to_numpy())
    found[rows] = [unusable(region) is not None for region in table["region"].iloc[rows]]
    return found


def _bad_mask(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return _without_mask(table)


def _unchanged(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["pair_change"], limits.min_pair_change, None)


def _spill(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["pair_outside"], None, limits.max_pair_outside)


def _unrelated(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["pair_similarity"], limits.min_pair_similarity, None)


FILTERS = (
    Filter("pair_mask", (PAIR,), (), _bad_mask),
    Filter("pair_unchanged", (PAIR,), ("pair_change",), _unchanged),
    Filter("pair_spill", (PAIR,), ("pair_outside",), _spill),
    Filter("pair_unrelated", (PAIR,), ("pair_similarity",), _unrelated),
)
