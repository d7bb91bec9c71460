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
MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio


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
    leader = _first_identical(words)
    leads = leader == np.arange(len(leader))
    rows, copies = np.flatnonzero(leads), np.flatnonzero(~leads)
    few = words[:, rows]
    left, right = _distinct([_band_links(few, band, distance) for band in plan(8 * hashes.shape[1], distance, len(rows))], len(rows))
    return _distinct([(rows[left], rows[right]), (leader[copies], copies)], len(leader))


def links_between(known: np.ndarray, new: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs (row of ``known``, row of ``new``), sorted, of hashes of which at most ``distance`` bits differ."""
    left, right = _words(known), _words(new)
    rows, found = np.arange(len(new)), []
    for band in plan(8 * known.shape[1], distance, max(len(known), len(new))):
        index, keys = _Index(left, band), _keys(right, band)
        for mask in band.masks:
            found += [(index.order[at], row) for row, at in index.within(keys ^ np.uint64(mask), rows, right, rows, distance)]
    return _distinct(found, len(new))


def _band_links(words: np.ndarray, band: Band, distance: int) -> tuple[np.ndarray, np.ndarray]:
    index = _Index(words, band)
    found = []
    for mask in band.masks:
        if mask:  # each pair from the side whose lowest differing bit is zero
            rows = np.flatnonzero((index.keys & np.uint64(mask & -mask)) == 0)
            hits = index.within(index.keys[rows] ^ np.uint64(mask), rows, index.words, index.places(rows), distance)
        else:
            hits = index.among(distance)
        found += [(index.order[row], index.order[at]) for row, at in hits]
    left, right = _joined(found)
    return np.minimum(left, right), np.maximum(left, right)


Hits = Iterator[tuple[np.ndarray, np.ndarray]]


class _Index:
    """Hashes sorted by their key in one band; ``order`` leads from a position back to its row."""

    def __init__(self, words: np.ndarray, band: Band) -> None:
        self.order, self.keys = _sorted(_keys(words, band), band.width)
        self.dense = 1 << band.width <= TABLE_SHARE * len(self.keys)
        if self.dense:  # many are compared: side by side in memory
            self.order, self.keys = self.order.astype(np.int64), self.keys.astype(np.uint64)
        self.words = words[:, self.order] if self.dense else words
        self.table = np.searchsorted(self.keys, np.arange((1 << band.width) + 1, dtype=np.uint64)) if self.dense else None

    def places(self, positions: np.ndarray) -> np.ndarray:
        """Where in ``words`` the hashes of positions are."""
        return positions if self.dense else self.order[positions]

    def among(self, distance: int) -> Hits:
        """Pairs of positions with the same key."""
        same = np.append(self.keys[1:] == self.keys[:-1], False)[: len(self.keys)]
        rows = np.flatnonzero(same)
        last = np.append(np.diff(rows) > 1, True)[: len(rows)]  # of a run of equal keys
        ends = rows[last] + 2
        stop = ends[np.searchsorted(ends, rows + 1, "right")]
        yield from self._compare(rows, self.words, self.places(rows), rows + 1, stop, distance)

    def within(self, keys: np.ndarray, rows: np.ndarray, others: np.ndarray, places: np.ndarray, distance: int) -> Hits:
        """Pairs (row, position) where the position has the row's key; the row's hash is ``others[:, place]``."""
        if self.table is not None:
            start, stop = self.table[keys], self.table[keys + np.uint64(1)]
        else:
            start, stop = np.searchsorted(self.keys, keys, "left"), np.searchsorted(self.keys, keys, "right")
        some = start < stop
        yield from self._compare(rows[some], others, places[some], start[some], stop[some], distance)

    def _compare(self, rows: np.ndarray, others: np.ndarray, places: np.ndarray, start: np.ndarray, stop: np.ndarray, distance: int) -> Hits:
        for begin in range(0, len(rows), BLOCK):
            part = slice(begin, begin + BLOCK)
            row, place, at, end = rows[part], places[part], start[part], stop[part]
            while len(row):
                near = self._near(others, place, at, distance)
                if len(near):
                    yield row[near], at[near]
                at = at + 1
                more = at < end
                row, place, at, end = row[more], place[more], at[more], end[more]

    def _near(self, others: np.ndarray, place: np.ndarray, at: np.ndarray, distance: int) -> np.ndarray:
        """Which (place, position) differ in at most ``distance`` bits: word after word, among those that still may."""
        left, spot = np.arange(len(place)), self.places(at)
        bits = np.zeros(len(place), np.int64)
        for word in range(len(self.words)):
            bits = bits + np.bitwise_count(others[word][place[left]] ^ self.words[word][spot[left]])
            few = bits <= distance
            left, bits = left[few], bits[few]
        return left


def _words(hashes: np.ndarray) -> np.ndarray:
    """(N, bytes) uint8 as (words, N) uint64, filled up with zeros."""
    missing = -hashes.shape[1] % 8
    padded = np.pad(hashes, ((0, 0), (0, missing))) if missing else np.ascontiguousarray(hashes)
    return np.ascontiguousarray(padded.view("<u8").astype(np.uint64, copy=False).T)


def _keys(words: np.ndarray, band: Band) -> np.ndarray:
    """The band's bits as one number per hash."""
    word, shift = divmod(band.start, WORD)
    keys = words[word] >> np.uint64(shift)
    if shift and shift + band.width > WORD:
        keys |= words[word + 1] << np.uint64(WORD - shift)
    keys &= np.uint64((1 << band.width) - 1)
    return keys


def _sorted(keys: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The stable order of keys of ``width`` bits, and the keys in it; ``keys`` is overwritten.

    Key and row sorted as one number are several times faster than argsort, and both halves are read in place.
    """
    if width > 32 or len(keys) > 1 << 32:
        order = np.argsort(keys, kind="stable")
        return order, keys[order]
    packed = keys
    packed <<= np.uint64(32)
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    halves = packed.astype("<u8", copy=False).view("<u4")
    return halves[0::2], halves[1::2]


def _first_identical(words: np.ndarray) -> np.ndarray:
    """For each hash the first row with the same one."""
    mixed = np.zeros(words.shape[1], np.uint64)
    for word in words:
        mixed ^= word
        mixed *= MIX
    mixed >>= np.uint64(32)
    order, keys = _sorted(mixed, 32)
    same = keys[1:] == keys[:-1]
    rows = np.sort(order[np.append(same, False) | np.append(False, same)] if len(order) else order)  # most rows share their key with none
    few = words[:, rows]
    order = np.lexsort(few)
    new = np.ones(len(order), bool)
    new[1:] = (few[:, order[1:]] != few[:, order[:-1]]).any(0)
    leader = np.arange(words.shape[1])
    leader[rows[order]] = rows[order[new]][np.cumsum(new) - 1]
    return leader


def _joined(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    none = np.zeros(0, np.int64)
    first, second = (np.concatenate([none, *(pair[side] for pair in pairs)]) for side in (0, 1))
    return first.astype(np.int64, copy=False), second.astype(np.int64, copy=False)


def _distinct(pairs: list[tuple[np.ndarray, np.ndarray]], n: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs once, sorted; ``n`` is more than any second number."""
    first, second = _joined(pairs)
    codes = np.unique(first * max(n, 1) + second)
    return codes // max(n, 1), codes % max(n, 1)
