"""The approximate half of the vector index: inverted lists over 4-bit product codes name candidates, which the caller compares exactly.

64 bytes a vector of width 512, scanned in registers (Andre et al., Quicker ADC, 2018; Douze et al., The Faiss library, 2024). What else was measured, and by
how much it lost, is in docs/flywheel.md. Everything is a function of the vectors and their order.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress

SEED, ROUNDS, PER_LIST = 1, 8, 64  # of k-means: its seed, rounds, and sample vectors per list
DIMENSIONS = 4  # of a vector that share one 4-bit code
PROBES = 64  # lists that a query looks into


def load_faiss() -> Any:
    """faiss; raises QI2Error that says how to get it."""
    try:
        import faiss
    except ImportError as error:
        raise QI2Error(f"retrieval needs faiss ({error}); pip install 'qi2[flywheel]'") from error
    return faiss


def lists_for(rows: int) -> int:
    """How many lists: about twice the square root, a power of two."""
    return int(2 ** round(np.log2(2 * max(rows, 4) ** 0.5)))


class Approximate:
    """Candidates by position for unit vectors, nearest by cosine."""

    def __init__(self, index: Any) -> None:
        self.faiss, self.index = load_faiss(), index

    @staticmethod
    def train(sample: np.ndarray, lists: int) -> "Approximate":
        """An empty index whose lists and codes fit ``sample`` (n, width); width a multiple of 4."""
        faiss, width = load_faiss(), sample.shape[1]
        if width % DIMENSIONS:
            raise QI2Error(f"vectors of width {width} cannot be indexed approximately; give a width that is a multiple of {DIMENSIONS}, filled up with zeros")
        lists = min(lists, len(sample))
        means = faiss.Kmeans(width, lists, niter=ROUNDS, seed=SEED, spherical=True, min_points_per_centroid=1, max_points_per_centroid=PER_LIST)
        means.train(sample)
        quantiser = faiss.IndexFlatIP(width)
        quantiser.add(means.centroids)
        index = faiss.IndexIVFPQFastScan(quantiser, width, lists, width // DIMENSIONS, 4, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.seed = SEED
        index.train(sample)
        return Approximate(index)

    @staticmethod
    def load(path: Path) -> "Approximate":
        """Inverse of ``save``."""
        return Approximate(load_faiss().read_index(str(path)))

    def save(self, path: Path) -> None:
        """Write one file; not atomic, the caller publishes it."""
        self.faiss.write_index(self.index, str(path))

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def lists(self) -> int:
        """How many lists there are."""
        return int(self.index.nlist)

    def add(self, blocks: Iterator[np.ndarray], total: int, quiet: bool = False) -> None:
        """Append vectors; their positions go on counting."""
        with Progress("index", total, "vectors", quiet) as progress:
            for block in blocks:
                self.index.add(block)
                progress.update(len(block))

    def candidates(self, queries: np.ndarray, count: int, probes: int = PROBES) -> np.ndarray:
        """Positions (n, count) of likely neighbours; -1 fills up."""
        settings = self.faiss.IVFSearchParameters(nprobe=min(probes, self.lists))
        found: np.ndarray = self.index.search(queries, min(count, max(len(self), 1)), params=settings)[1]
        return found
