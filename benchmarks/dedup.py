"""CPU seconds that near-duplicates cost by their hashes, and whether any is missed: ``python -m benchmarks.dedup``.

Random hashes, a tenth of them planted as copies with 1 to T flipped bits; one thread, best of ``--repeats``. ``cpu_s_1m_hT``: a million
64-bit hashes at distance T. ``growth_exponent``: from 10^5 to ``--largest`` 256-bit hashes at distance 7. ``vs_brute``: how many times
longer it takes to compare all of 32,768 64-bit hashes at distance 7 with NumPy. ``recall``: planted pairs found, the worst of all runs.
``growth_exponent_sort``: the same of one NumPy sort of as many 64-bit numbers, which also leaves the caches.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from qi2.data.filters.hamming import links

Pairs = tuple[np.ndarray, np.ndarray]
SLAB = 1024


def planted(n: int, bits: int, distance: int, seed: int = 0) -> tuple[np.ndarray, Pairs]:
    """Hashes (n, bits / 8) and the planted pairs (original, copy)."""
    draw = np.random.default_rng(seed)
    hashes = draw.integers(0, 256, (n, bits // 8), dtype=np.uint8)
    original, copy = draw.permutation(n)[: n // 10 * 2].reshape(2, -1)
    flips = draw.integers(1, distance + 1, len(original))
    hashes[copy] = hashes[original]
    where = np.argsort(draw.random((len(original), 4 * distance)), axis=1)[:, :distance] * (bits // (4 * distance))  # distinct bits
    for k in range(distance):
        rows = np.flatnonzero(flips > k)
        bit = where[rows, k]
        hashes[copy[rows], bit // 8] ^= (1 << bit % 8).astype(np.uint8)
    return hashes, (np.minimum(original, copy), np.maximum(original, copy))


def brute(hashes: np.ndarray, distance: int) -> Pairs:
    """All pairs by comparing each with each."""
    words = hashes.view(np.uint64)[:, 0]
    found = []
    for start in range(0, len(words), SLAB):
        a, b = np.nonzero(np.bitwise_count(words[start : start + SLAB, None] ^ words[None, start:]) <= distance)
        found.append((start + a[b > a], start + b[b > a]))
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def measure(search: Callable[[np.ndarray, int], Pairs], n: int, bits: int, distance: int, repeats: int) -> tuple[float, float]:
    """CPU seconds and recall."""
    hashes, (first, second) = planted(n, bits, distance)
    best = np.inf
    for _ in range(repeats):
        begin = time.process_time()
        left, right = search(hashes, distance)
        best = min(best, time.process_time() - begin)
    return best, float(np.isin(first * n + second, left * n + right).mean())


def sort_s(n: int, repeats: int) -> float:
    """CPU seconds of one sort."""
    numbers, best = np.random.default_rng(0).integers(0, 2**63, n), np.inf
    for _ in range(repeats):
        begin = time.process_time()
        np.sort(numbers)
        best = min(best, time.process_time() - begin)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dedup", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--largest", type=int, default=10_000_000)
    given = parser.parse_args()
    near, recall_near = measure(links, 10**6, 64, 3, given.repeats)
    wide, recall_wide = measure(links, 10**6, 64, 7, given.repeats)
    small, recall_small = measure(links, 10**5, 256, 7, given.repeats)
    large, recall_large = measure(links, given.largest, 256, 7, 1)
    few, recall_few = measure(links, 1 << 15, 64, 7, given.repeats)
    every, recall_every = measure(brute, 1 << 15, 64, 7, 1)
    values = {
        "cpu_s_1m_h3": near,
        "cpu_s_1m_h7": wide,
        "recall": min(recall_near, recall_wide, recall_small, recall_large, recall_few),
        "growth_exponent": np.log(large / small) / np.log(given.largest / 1e5),
        "growth_exponent_sort": np.log(sort_s(given.largest, given.repeats) / sort_s(10**5, given.repeats)) / np.log(given.largest / 1e5),
        "vs_brute": every / few,
        "recall_brute": recall_every,
        "cpu_s_100k_256bit": small,
        "cpu_s_largest_256bit": large,
    }
    print(json.dumps({name: round(float(value), 4) for name, value in values.items()}))


if __name__ == "__main__":
    main()
