"""Semantic duplicates (SemDeDup, Abbas et al. 2023): pictures whose CLIP embeddings nearly point the same way, found inside k-means clusters.

An option beyond the report: other views of one subject, not copies of one picture. The cost is N * k for the clusters and N^2 / k inside them.
"""

from typing import TYPE_CHECKING

import numpy as np

from qi2.core.rng import numpy_rng
from qi2.data.curate_config import CurateConfig, StageThresholds
from qi2.data.filters.base import IMAGE, Filter
from qi2.data.filters.exact import best_first
from qi2.data.filters.stored import Blobs

if TYPE_CHECKING:
    import pandas as pd

ROUNDS = 10  # of k-means
SAMPLE = 100_000  # embeddings that the centres are fitted to
BLOCK = 4096  # rows compared at once


def duplicate_of(table: "pd.DataFrame", passes: np.ndarray, config: CurateConfig, embeddings: Blobs) -> np.ndarray:
    """For every T2I row the id of a better row, kept itself, whose embedding lies within ``config.semantic_distance`` (1 - cosine), or None.

    table: with the earlier duplicate columns, whose rows are left out; ``embeddings`` are float16 unit vectors. Held-out rows stay, and what equals
    them goes.
    """
    found = np.full(len(table), None, dtype=object)
    if config.semantic_distance is None:
        return found
    free = table["exact_duplicate_of"].isna() & table["near_duplicate_of"].isna() & (table["role"] == IMAGE)
    rows = np.flatnonzero(free.to_numpy() & embeddings.given)
    if len(rows) < 2:
        return found
    part = table.iloc[rows]
    vectors = embeddings.take(rows).view(np.float16).astype(np.float32)
    cluster = nearest(vectors, centres(vectors, config.semantic_clusters or max(1, round(len(rows) ** 0.5 / 4))))
    ids, heldout = part["id"].to_numpy(), (part["split"] == "heldout").to_numpy()
    order = best_first(part, passes[rows])
    rank = np.empty(len(rows), int)
    rank[order] = np.arange(len(rows))
    for number in np.unique(cluster):
        members = np.flatnonzero(cluster == number)
        members = members[np.argsort(rank[members])]
        kept: list[int] = []
        for row in members.tolist():
            same = np.flatnonzero(vectors[np.array(kept, int)] @ vectors[row] >= 1 - config.semantic_distance)
            if len(same) and not heldout[row]:
                found[rows[row]] = ids[kept[int(same[0])]]
            else:
                kept.append(row)
    return found


def centres(vectors: np.ndarray, count: int) -> np.ndarray:
    """Unit centres (count, D) of unit vectors (N, D) by spherical k-means from random rows, fitted to a sample."""
    rng = numpy_rng(0, "semantic-centres")
    sample = vectors[np.sort(rng.permutation(len(vectors))[:SAMPLE])]
    found = sample[rng.permutation(len(sample))[:count]].copy()
    for _ in range(ROUNDS):
        owner = nearest(sample, found)
        sums = np.zeros_like(found)
        np.add.at(sums, owner, sample)
        used = np.linalg.norm(sums, axis=1) > 0
        found[used] = sums[used] / np.linalg.norm(sums[used], axis=1, keepdims=True)
    return found


def nearest(vectors: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Index of the nearest centre for each vector."""
    return np.concatenate([(vectors[start : start + BLOCK] @ to.T).argmax(1) for start in range(0, len(vectors), BLOCK)])


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return table["semantic_duplicate_of"].notna().to_numpy() & bool(limits.near_duplicates)


FILTER = Filter("semantic_duplicate", (IMAGE,), ("embedding",), _rejects)
