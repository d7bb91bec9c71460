"""Semantic duplicates are found by their embeddings, the best one stays, and nothing else goes."""

import numpy as np
import pandas as pd

from qi2.data.curate_config import CurateConfig
from qi2.data.filters.semantic import centres, duplicate_of, nearest
from tests.data.conftest import Held, blank_table


def _table(vectors: np.ndarray, **columns: object) -> pd.DataFrame:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return blank_table(len(unit), embedding=[row.tobytes() for row in unit.astype(np.float16)], **columns)


def _planted(subjects: int = 300, views: int = 3) -> np.ndarray:
    draw = np.random.default_rng(0)
    return np.repeat(draw.normal(size=(subjects, 32)), views, axis=0) + 0.02 * draw.normal(size=(subjects * views, 32))


def test_one_view_of_every_subject_stays() -> None:
    vectors = _planted()
    table = _table(vectors, short_side=[64 + row % 3 for row in range(len(vectors))])
    found = duplicate_of(table, np.ones(len(table), bool), CurateConfig(semantic_distance=0.02), Held(table["embedding"]))
    kept = np.flatnonzero(pd.isna(pd.Series(found, dtype=object)))
    assert kept.tolist() == list(range(2, len(vectors), 3))  # the largest of each three
    assert all(int(name[1:]) // 3 == row // 3 for row, name in enumerate(found) if name)


def test_a_heldout_view_stays_and_the_training_ones_go() -> None:
    table = _table(_planted(1), split=["train", "heldout", "train"])
    assert duplicate_of(table, np.ones(3, bool), CurateConfig(semantic_distance=0.02), Held(table["embedding"])).tolist() == ["r1", None, "r1"]


def test_nothing_is_asked_without_a_distance() -> None:
    table = _table(_planted(4))
    assert not duplicate_of(table, np.ones(12, bool), CurateConfig(), Held(table["embedding"])).any()


def test_clusters_keep_near_vectors_together() -> None:
    vectors = _planted(40, 5)
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    owner = nearest(unit, centres(unit, 8)).reshape(40, 5)
    assert (owner == owner[:, :1]).all(axis=1).mean() > 0.95
    assert len(np.unique(owner)) > 4
