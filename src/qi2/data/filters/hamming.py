"""Binary hashes of which few bits differ, found by bands (Manku et al., 2007; Norouzi et al., 2012), and not by comparing all.

Cut the bits into bands and allow each band a radius, so that radius + 1 summed over the bands exceeds the distance: then two
hashes within the distance agree in some band up to its radius. So every such pair is found (recall is 1), and what is compared
beyond them falls by half with every bit of a band: N hashes need bands of about log2 N bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

WORD = 64  # bits
BLOCK = 1 << 15  # rows compared at once, so that they stay in the processor's cache
TABLE_SHARE = 16  # bands with up to so many keys per hash find their rows through a table, wider ones by binary search
MAX_RADIUS = 3


@dataclass(frozen=True)
class Band:
    """Bits ``start`` to ``start + width`` (at most 64), of which up to ``radius`` may differ."""

    start: int
    width: int
    radius: int

    @property
    def masks(self) -> Iterator[int]:
        """What may differ: every set of at most ``radius`` bits of the band."""
        for flips in range(self.radius + 1):
            for bits in combinations(range(self.width), flips):
                yield sum(1 << bit for bit in bits)

    def cost(self, n: int) -> float:
        """Expected look-ups and comparisons among n random hashes."""
        probes = sum(comb(self.width, flips) for flips in range(self.radius + 1))
        return probes * (n + n * n / 2.0 ** (self.width + 1))


def plan(bits: int, distance: int, n: int) -> list[Band]:
    """The cheapest bands that miss no pair of n hashes within ``distance``."""
    plans = (_bands(bits, distance, radius) for radius in range(min(distance, MAX_RADIUS) + 1))
    return min((bands for bands in plans if bands), key=lambda bands: sum(band.cost(n) for band in bands))


def _bands(bits: int, distance: int, radius: int) -> list[Band]:
    count = -(-(distance + 1) // (radius + 1))
    spare = count * (radius + 1) - (distance + 1)  # so many bands need only the next smaller radius
    edges = np.linspace(0, bits, count + 1).astype(int).tolist()
    widths = [min(stop - start, WORD) for start, stop in zip(edges, edges[1:], strict=False)]
    if min(widths) <= radius:
        return []
    return [Band(start, width, radius - (i < spare)) for i, (start, width) in enumerate(zip(edges, widths, strict=False))]


def links(hashes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs i < j, sorted, of hashes (N, bytes) uint8 of which at most ``distance`` bits differ.

    Of identical hashes only the first is compared with others, and the rest are paired with it: a million blank pictures give a
    million pairs and not their square. Connected components are those of all pairs.
    """
    words = _words(hashes)
    _, first, group = np.unique(words, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # so that a smaller number means an earlier row
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    first, group = first[order], rank[group.reshape(-1)]
    found = [_band_links(words[first], band, distance) for band in plan(8 * hashes.shape[1], distance, len(first))]
    left, right = _distinct(*_joined(found), len(first))
    copies = np.flatnonzero(first[group] != np.arange(len(words)))
    return _distinct(np.concatenate([first[left], first[group[copies]]]), np.concatenate([first[right], copies]), len(words))


def links_between(known: np.ndarray, new: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs (row of ``known``, row of ``new``), sorted, of hashes of which at most ``distance`` bits differ."""
    left, right = _words(known), _words(new)
    found = []
    for band in plan(8 * known.shape[1], distance, max(len(known), len(new))):
        index = _Index(left, band)
        keys = _keys(right, band)
        for mask in band.masks:
            found += [(index.order[at], rows) for rows, at in index.within(right, np.arange(len(right)), keys ^ np.uint64(mask), distance)]
    return _distinct(*_joined(found), len(right))


def _band_links(words: np.ndarray, band: Band, distance: int) -> tuple[np.ndarray, np.ndarray]:
    index = _Index(words, band)
    found = []
    for mask in band.masks:
        if mask:  # each pair from the side whose lowest differing bit is zero
            rows = np.flatnonzero((index.keys & np.uint64(mask & -mask)) == 0)
            hits = index.within(index.words, rows, index.keys[rows] ^ np.uint64(mask), distance)
        else:
            hits = index.among(distance)
        found += [(index.order[rows], index.order[at]) for rows, at in hits]
    left, right = _joined(found)
    return np.minimum(left, right), np.maximum(left, right)


class _Index:
    """Hashes sorted by their key in one band; ``order`` leads back to their rows."""

    def __init__(self, words: np.ndarray, band: Band) -> None:
        keys = _keys(words, band)
        if band.width <= 32:  # sorting key and row as one number is several times faster than argsort
            packed = np.sort(keys << np.uint64(32) | np.arange(len(keys), dtype=np.uint64))
            self.order, self.keys = (packed & np.uint64(2**32 - 1)).astype(np.int64), packed >> np.uint64(32)
        else:
            self.order = np.argsort(keys, kind="stable")
            self.keys = keys[self.order]
        self.words = words[self.order]
        dense = 1 << band.width <= TABLE_SHARE * len(keys)
        self.table = np.searchsorted(self.keys, np.arange((1 << band.width) + 1, dtype=np.uint64)) if dense else None

    def among(self, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of positions with the same key."""
        ends = np.append(np.flatnonzero(self.keys[1:] != self.keys[:-1]) + 1, len(self.keys))
        lengths = np.diff(ends, prepend=0)
        rows = np.arange(len(self.keys))
        yield from self._compare(self.words, rows, rows + 1, np.repeat(ends, lengths), distance)

    def within(self, others: np.ndarray, rows: np.ndarray, keys: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs (row of ``others``, position) of ``rows`` whose given key is that of the position."""
        if self.table is not None:
            start, stop = self.table[keys], self.table[keys + np.uint64(1)]
        else:
            start, stop = np.searchsorted(self.keys, keys, "left"), np.searchsorted(self.keys, keys, "right")
        yield from self._compare(others, rows, start, stop, distance)

    def _compare(self, others: np.ndarray, rows: np.ndarray, start: np.ndarray, stop: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        some = start < stop
        rows, start, stop = rows[some], start[some], stop[some]
        for begin in range(0, len(rows), BLOCK):
            part = slice(begin, begin + BLOCK)
            row, at, end = rows[part], start[part], stop[part]
            while len(row):
                near = self._near(others, row, at, distance)
                if len(near):
                    yield row[near], at[near]
                at = at + 1
                more = at < end
                row, at, end = row[more], at[more], end[more]

    def _near(self, others: np.ndarray, row: np.ndarray, at: np.ndarray, distance: int) -> np.ndarray:
        """Which (row, position) differ in at most ``distance`` bits: word after word, among those that still may."""
        left = np.arange(len(row))
        bits = np.zeros(len(row), np.int64)
        for word in range(self.words.shape[1]):
            bits = bits + np.bitwise_count(others[row[left], word] ^ self.words[at[left], word])
            few = bits <= distance
            left, bits = left[few], bits[few]
        return left


def _words(hashes: np.ndarray) -> np.ndarray:
    """(N, bytes) uint8 as (N, words) uint64, filled up with zeros."""
    padded = np.zeros((len(hashes), -(-hashes.shape[1] // 8) * 8), np.uint8)
    padded[:, : hashes.shape[1]] = hashes
    return padded.view("<u8").astype(np.uint64, copy=False)


def _keys(words: np.ndarray, band: Band) -> np.ndarray:
    """The band's bits as one number per hash."""
    word, shift = divmod(band.start, WORD)
    keys = words[:, word] >> np.uint64(shift)
    if shift and shift + band.width > WORD:
        keys = keys | words[:, word + 1] << np.uint64(WORD - shift)
    return keys & np.uint64((1 << band.width) - 1)


def _joined(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *(a for a, _ in pairs)]), np.concatenate([none, *(b for _, b in pairs)])


def _distinct(first: np.ndarray, second: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    codes = np.unique(first.astype(np.int64) * n + second)
    return codes // max(n, 1), codes % max(n, 1)
