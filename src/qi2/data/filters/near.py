"""Near-duplicates (report 2.3, stage 1): the same picture re-encoded, resized or slightly shifted. The best copy stays.

Candidates come from one of two searches; an aligned comparison decides (see ``alignment``). ``thumbnails`` takes pictures that lie
close together as coarse thumbnails: right for drawn pictures too, at N^2 x 192 multiply-adds less what sorting along the main
direction saves, so seconds for 30k rows and core-minutes for a million. ``hashes`` takes photographs of which few bits of their
perceptual hash differ, at a cost that hardly grows faster than N (see ``hamming``; of pictures with one and the same hash only the
first is compared with the others). A row is rejected only when a *kept* row is its
near-duplicate, so that a chain of small differences never empties a cluster.

Earlier data (``curate.known``) are compared by their stored hashes alone: what nearly equals a row that they trained on or hold out is
rejected, and of held-out rows what nearly equals one that they trained on, since it would judge a model by what it has learnt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.core.errors import QI2Error
from qi2.data.curate_config import STAGES, CurateConfig, StageThresholds
from qi2.data.filters.alignment import SIDE, coarse, matches, planes, thumbnail
from qi2.data.filters.base import IMAGE, TARGETS, Filter, Picture
from qi2.data.filters.exact import best_first, comparable
from qi2.data.filters.hamming import links, links_between
from qi2.data.filters.phash import BITS, phash
from qi2.data.filters.stored import Blobs, blocks

if TYPE_CHECKING:
    import pandas as pd

SLAB = 2048  # rows compared at once
READ = 4096  # thumbnails read at once
ASPECT = 0.05  # largest difference of the logarithm of width / height


def measure(picture: Picture) -> dict[str, Any]:
    """Thumbnail bytes; needed only until duplicates are found, and not kept in the score table."""
    return {"thumbnail": thumbnail(picture.small)}


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


@dataclass(frozen=True)
class Search:
    """What is kept of every thumbnail (N, 3, 32, 32), and which index pairs of that are candidates."""

    reduce: Callable[[np.ndarray], np.ndarray]
    pairs: Callable[[np.ndarray, CurateConfig], tuple[np.ndarray, np.ndarray]]


SEARCHES = {
    "thumbnails": Search(coarse, lambda points, config: close_pairs(points, config.near_radius)),
    "hashes": Search(phash, lambda found, config: links(found[:, : config.near_bits // 8], config.near_distance)),
}


def near_pairs(thumbnails: Blobs, rows: np.ndarray, aspect: np.ndarray, keys: np.ndarray, config: CurateConfig) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs of near-duplicates among ``rows`` of the table with log aspect ratios (like ``rows``); only equal ``keys`` compare.

    Only the thumbnails of candidates are held at once.
    """
    if config.near_search not in SEARCHES:
        raise QI2Error(f"curate.near_search={config.near_search!r} is none of {', '.join(SEARCHES)}")
    search = SEARCHES[config.near_search]
    reduced = np.concatenate([search.reduce(planes(thumbnails.take(part))) for part in blocks(rows, READ)])
    order = np.argsort(keys, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    found = []
    for group in groups:
        if len(group) > 1:
            a, b = search.pairs(reduced[group], config)
            found.append((group[a], group[b]))
    first, second = _joined(found)
    same_form = np.abs(aspect[first] - aspect[second]) <= ASPECT
    first, second = first[same_form], second[same_form]
    used, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    held = np.empty((len(used), 3, SIDE, SIDE), np.uint8)
    for part in blocks(np.arange(len(used)), READ):
        held[part] = planes(thumbnails.take(rows[used[part]]))
    near = matches(held, place[: len(first)], place[len(first) :], config.near_layout, config.near_detail)
    return first[near], second[near]


def duplicate_of(table: "pd.DataFrame", passes: np.ndarray, config: CurateConfig, thumbnails: Blobs) -> np.ndarray:
    """For every row the id of the kept row, here or in earlier data, that it nearly equals, or None; exact duplicates are left out beforehand."""
    keys = comparable(table).where(table["exact_duplicate_of"].isna(), None)
    rows = np.flatnonzero(keys.notna())
    found = np.full(len(table), None, dtype=object)
    if not len(rows):
        return found
    part = table.iloc[rows]
    aspect = np.log(part["aspect"].to_numpy(float))
    first, second = near_pairs(thumbnails, rows, aspect, np.unique(keys.iloc[rows].astype(str), return_inverse=True)[1], config)
    neighbours: dict[int, list[int]] = {}
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    ids, heldout, earlier = part["id"].to_numpy(), part["split"].to_numpy() == "heldout", known_copies(part, config)
    kept: set[int] = set()
    for row in best_first(part, passes[rows]).tolist():
        same = earlier[row] or (None if heldout[row] else next((ids[other] for other in neighbours.get(row, ()) if other in kept), None))
        found[rows[row]] = same
        if same is None or heldout[row]:  # training copies of a held-out row go in any case
            kept.add(row)
    return found


def known_copies(part: "pd.DataFrame", config: CurateConfig) -> np.ndarray:
    """For every T2I row the id of a row of earlier data whose hash differs in at most ``curate.known_distance`` bits, or None.

    Held-out rows compare only with rows that a stage of the earlier data trained on.
    """
    found = np.full(len(part), None, dtype=object)
    if not config.known:
        return found
    targets = np.flatnonzero((part["role"] == IMAGE).to_numpy())
    own, heldout = _bytes(part["phash"].iloc[targets]), (part["split"] == "heldout").to_numpy()[targets]
    for path in config.known:
        names, known, trained = _known(Path(path))
        earlier, new = links_between(known, own, config.known_distance)
        counts = trained[earlier] | ~heldout[new]
        earlier, new = earlier[counts], new[counts]
        found[targets[new[::-1]]] = names[earlier[::-1]]  # the first match of a row is written last
    return found


def _known(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids and hashes of the pictures that earlier data trained on, at any stage, or hold out; and which they trained on."""
    import pandas as pd

    reasons = [f"reason_{name}" for name in STAGES]
    columns = ["id", "role", "phash", *reasons]
    try:
        table = pd.read_parquet(path, columns=columns)
    except Exception as error:  # no file, no parquet file, or other columns
        raise QI2Error(f"curate.known: {path} is not a scores.parquet that curation wrote, with the columns {', '.join(columns)}: {error}") from error
    table = table[(table["role"] == IMAGE) & table["phash"].notna()]
    trained = table[reasons].isna().any(axis=1).to_numpy()
    stayed = trained | (table[reasons[0]] == "heldout").to_numpy()
    return table["id"].to_numpy(object)[stayed], _bytes(table["phash"][stayed]), trained[stayed]


def hashes(thumbnails: Blobs) -> list[str | None]:
    """The perceptual hash of every thumbnail as 64 hexadecimal digits; None where there is no thumbnail."""
    found: list[str | None] = [None] * len(thumbnails.given)
    for rows in blocks(np.flatnonzero(thumbnails.given), READ):
        for row, value in zip(rows.tolist(), phash(planes(thumbnails.take(rows))), strict=True):
            found[row] = value.tobytes().hex()
    return found


def _bytes(digits: "pd.Series") -> np.ndarray:
    return np.frombuffer(bytes.fromhex("".join(digits)), np.uint8).reshape(len(digits), BITS // 8)


def _joined(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    none = np.zeros(0, int)
    return np.concatenate([a for a, _ in pairs] or [none]), np.concatenate([b for _, b in pairs] or [none])


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return table["near_duplicate_of"].notna().to_numpy() & bool(limits.near_duplicates)


FILTER = Filter("near_duplicate", TARGETS, ("thumbnail",), _rejects, measure)
