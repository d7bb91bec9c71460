"""A vector index by cosine: exact below 100,000 vectors, above it exact among candidates that faiss names; incremental and durable (report section 2.4).

What ``add`` and ``remove`` did is on the disk when they return, and a kill at any moment leaves the last such state (`segments`). The approximate part
can always be made again from the vectors; it is stored now and then, so that opening only adds what came after. Opening writes nothing.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from qi2.core.errors import QI2Error
from qi2.flywheel.retrieval.approximate import PER_LIST, PROBES, Approximate, lists_for, load_faiss
from qi2.flywheel.retrieval.segments import Segments, Stale

EXACT = 100_000  # vectors from which on the search is approximate
CANDIDATES = 400  # compared exactly per query, and at least 4 for every neighbour wanted
TAIL = 0.25  # share of rows that the stored approximate index may lack
GONE = 0.2  # share of removed rows above which the folder is written anew


class VectorIndex:
    """Vectors (width) under ids; made by ``open``. One process writes at a time."""

    def __init__(self, folder: Path, width: int, exact: int = EXACT) -> None:
        self.faiss, self.width, self.exact = load_faiss(), width, exact
        self.segments = Segments(folder, width)
        self._matrix: np.ndarray | None = None
        self._ann: Approximate | None = None
        self._refresh()

    @staticmethod
    def open(folder: Path, width: int, exact: int = EXACT) -> "VectorIndex":
        """Open a folder, or begin one. Raises QI2Error for another width, and for a file that is not what its hash says."""
        return VectorIndex(Path(folder), width, exact)

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, name: str) -> bool:
        return name in self._place

    @property
    def ids(self) -> list[str]:
        """All ids, in the order in which they came."""
        return list(self._place)

    def add(self, ids: Sequence[str], vectors: np.ndarray, replace: bool = False) -> None:
        """Store vectors (n, width) for good, all or none. Raises QI2Error for an id that is there (unless ``replace``) or comes twice, and for bad vectors."""
        ids = list(ids)
        unit = self._unit(vectors, "vectors")
        if len(unit) != len(ids):
            raise QI2Error(f"{len(ids)} ids came with {len(unit)} vectors; give one vector for every id")
        if bad := [name for name in ids if not isinstance(name, str) or not name]:
            raise QI2Error(f"{bad[0]!r} is no id; ids are texts that are not empty")
        if len(set(ids)) < len(ids):
            twice = next(name for place, name in enumerate(ids) if name in ids[:place])
            raise QI2Error(f"id {twice!r} comes twice in one call; give every id once")
        there = [name for name in ids if name in self._place]
        if there and not replace:
            raise QI2Error(f"id {there[0]!r} is in {self.segments.folder} already; remove it first, or add with replace=True")
        if ids:
            self._change(ids, unit, self._positions(there))

    def remove(self, ids: Sequence[str]) -> None:
        """Forget ids for good, all or none; raises QI2Error for one that is not there."""
        if missing := [name for name in ids if name not in self._place]:
            raise QI2Error(f"id {missing[0]!r} is not in {self.segments.folder}, so it cannot be removed")
        if len(ids):
            self._change([], np.zeros((0, self.width), np.float32), self._positions(ids))

    def search(self, queries: np.ndarray, k: int, probes: int = PROBES, candidates: int = CANDIDATES) -> tuple[list[list[str]], np.ndarray]:
        """The ids of the ``k`` nearest of each query (n, width), best first, and their cosines (n, k); fewer where there are fewer.

        ``probes`` and ``candidates``: how hard the approximate search tries.
        """
        if k < 1:
            raise QI2Error(f"k={k} neighbours cannot be searched; ask for at least one")
        unit = self._unit(queries, "queries")
        k = min(k, len(self))
        if not k or not len(unit):
            return [[] for _ in unit], np.zeros((len(unit), k), np.float32)
        if self._ann is None:
            cosines, rows = self.faiss.knn(unit, self._all(), k, metric=self.faiss.METRIC_INNER_PRODUCT)
            positions = self._alive[rows]
        else:
            positions, cosines = self._approximate(unit, k, probes, max(candidates, 4 * k))
        order = np.lexsort((positions, -cosines), axis=1)
        positions, cosines = np.take_along_axis(positions, order, 1), np.take_along_axis(cosines, order, 1)
        names = self.segments.ids
        return [[names[int(place)] for place in row] for row in positions], cosines

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Unit vectors (n, width) of ids that are there."""
        if missing := [name for name in ids if name not in self._place]:
            raise QI2Error(f"id {missing[0]!r} is not in {self.segments.folder}")
        return self.segments.take(self._positions(ids))

    def _approximate(self, unit: np.ndarray, k: int, probes: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Candidates compared exactly; where removed rows leave too few, more lists and candidates are looked at."""
        assert self._ann is not None
        positions, cosines = np.empty((len(unit), k), np.int64), np.empty((len(unit), k), np.float32)
        left = np.arange(len(unit))
        while len(left):
            again = []
            for row, found in zip(left, self._ann.candidates(unit[left], count, probes), strict=True):
                mine = np.sort(found[found >= 0])
                mine = mine[self.segments.alive[mine]]
                if len(mine) < k:
                    again.append(row)
                    continue
                near = self.segments.take(mine) @ unit[row]
                best = np.argsort(-near, kind="stable")[:k]
                positions[row], cosines[row] = mine[best], near[best]
            left, probes, count = np.array(again, int), probes * 4, count * 4
        return positions, cosines

    def _change(self, ids: list[str], vectors: np.ndarray, gone: np.ndarray) -> None:
        """Change the folder; then, unless another process has changed it since, leave out what is gone and store the approximate index where that pays."""
        self.segments.change(ids, vectors, gone)
        with suppress(Stale):
            if (~self.segments.alive).mean() > GONE:
                self.segments.rewrite()
                self._ann = None
        self._refresh()
        rows, stored = len(self.segments), self.segments.state.ann_rows
        with suppress(Stale):
            if self._ann is not None and (stored > rows or rows - stored > TAIL * rows):
                self.segments.attach(rows, self._ann.save)

    def _refresh(self) -> None:
        """Bring what is in memory, and the approximate index, up to the segments."""
        self._alive = np.flatnonzero(self.segments.alive)
        self._place = {self.segments.ids[int(place)]: int(place) for place in self._alive}
        self._matrix = None
        if len(self) < self.exact:
            self._ann = None
            return
        rows = len(self.segments)
        if self._ann is None:
            self._ann = self.segments.ann(Approximate.load)
        if self._ann is None or lists_for(rows) > 2 * self._ann.lists or len(self._ann) > rows:
            at = np.linspace(0, len(self._alive) - 1, min(len(self._alive), PER_LIST * lists_for(rows))).astype(int)
            self._ann = Approximate.train(self.segments.take(self._alive[at]), lists_for(rows))
        if (lack := rows - len(self._ann)) > 0:
            self._ann.add(self.segments.blocks(len(self._ann)), lack, quiet=lack < self.exact // 10)

    def _all(self) -> np.ndarray:
        if self._matrix is None:
            self._matrix = self.segments.take(self._alive)
        return self._matrix

    def _positions(self, ids: Sequence[str]) -> np.ndarray:
        return np.array([self._place[name] for name in ids], np.int64)

    def _unit(self, values: np.ndarray, what: str) -> np.ndarray:
        """Float32 unit rows; raises QI2Error for another width and for numbers that are none."""
        found = np.asarray(values, np.float32)
        if found.ndim != 2 or found.shape[1] != self.width:
            raise QI2Error(f"{what} have the shape {found.shape}; {self.segments.folder} takes (n, {self.width})")
        length = np.linalg.norm(found, axis=1, keepdims=True)
        if len(bad := np.flatnonzero(~np.isfinite(found).all(1) | (length[:, 0] == 0))):
            raise QI2Error(f"row {bad[0]} of the {what} holds NaN or infinity, or only zeros, and has no direction; check what embedded it")
        return np.ascontiguousarray(found / length)
