"""Binary hashes of which few bits differ, found by bands (Manku et al., 2007; Norouzi et al., 2012), and not by comparing all.

`bands` says why none is missed. From some hundred thousand hashes on, what costs is not arithmetic but memory. So whole columns are gone
through in slices that stay in the cache, and where few pairs agree by chance, all bands name their pairs first and each pair is then
compared once.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from qi2.data.filters.bands import WORD, Band, plan

BLOCK = 1 << 15  # rows compared at once, so that they stay in the processor's cache
WAITING = 1 << 24  # pairs that wait to be compared: 128 MiB
TABLE_SHARE = 16  # bands with up to so many keys per hash find their rows through a table, wider ones by binary search
MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio
HALF, LOW = np.uint64(32), np.uint64((1 << 32) - 1)
Hits = Iterator[tuple[np.ndarray, np.ndarray]]


def links(hashes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs i < j, sorted, of hashes (N < 2^32, bytes) uint8 of which at most ``distance`` bits differ.

    Of identical hashes only the first is compared with others, and the rest are paired with it: a million blank pictures give a
    million pairs and not their square. Connected components are those of all pairs.
    """
    table = _table(hashes)
    words, found = _words(table), _Pairs(table, table, distance)
    first, copies = _copies(words)
    found.add(first, copies)
    rows = np.delete(np.arange(len(hashes), dtype=np.uint32), copies)
    for band in plan(8 * hashes.shape[1], distance, len(rows)):
        for left, right in _band_links(words, rows, band, distance):
            found.add(np.minimum(left, right), np.maximum(left, right))
    return found.close()


def links_between(known: np.ndarray, new: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs (row of ``known``, row of ``new``), sorted, of hashes of which at most ``distance`` bits differ."""
    tables = _table(known), _table(new)
    (left, right), found = map(_words, tables), _Pairs(*tables, distance)
    earlier, rows = (np.arange(len(hashes), dtype=np.uint32) for hashes in (known, new))
    for band in plan(8 * known.shape[1], distance, max(len(known), len(new))):
        index, keys = _Index(left, earlier, band), _keys(right, band)
        for mask in band.masks:
            for row, at in index.within(keys ^ np.uint64(mask), rows, right, rows, distance):
                found.add(index.order[at], row)
    return found.close()


def _band_links(words: np.ndarray, rows: np.ndarray, band: Band, distance: int) -> Hits:
    index = _Index(words, rows, band)
    for mask in band.masks:
        if mask:  # each pair from the side whose lowest differing bit is zero
            places = np.flatnonzero((index.sought & np.uint64(mask & -mask)) == 0)
            hits = index.within(index.sought[places] ^ np.uint64(mask), places, None, places, distance)
        else:
            hits = index.among(distance)
        for row, at in hits:
            yield index.order[row], index.order[at]


class _Pairs:
    """Pairs (row of ``one``, row of ``other``) that some band names, each compared once; at most ``WAITING`` and one block wait for it."""

    def __init__(self, one: np.ndarray, other: np.ndarray, distance: int) -> None:
        self.one, self.other, self.distance = one, other, distance
        self.waiting: list[np.ndarray] = []
        self.near: list[np.ndarray] = []
        self.count = 0

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        self.waiting.append(first.astype(np.uint64) << HALF | second.astype(np.uint64))
        self.count += len(first)
        if self.count > WAITING:
            self._compare()

    def close(self) -> tuple[np.ndarray, np.ndarray]:
        """Those within the distance, once each and sorted."""
        self._compare()
        codes = _distinct(self.near)
        return (codes >> HALF).astype(np.int64), (codes & LOW).astype(np.int64)

    def _compare(self) -> None:
        codes = _distinct(self.waiting)
        for start in range(0, len(codes), BLOCK):
            part = codes[start : start + BLOCK]
            differ = np.bitwise_count(self.one[part >> HALF] ^ self.other[part & LOW])
            self.near.append(part[np.sum(differ, axis=1, dtype=np.uint16) <= self.distance])
        self.waiting, self.count = [], 0


class _Index:
    """Hashes of ``rows`` sorted by their key in one band; ``order`` leads from a position back to its row.

    Where keys agree more often than there are hashes, pairs are compared where they are found and only near ones are told.
    """

    def __init__(self, words: np.ndarray, rows: np.ndarray, band: Band) -> None:
        self.order, self.keys = _sorted(words, rows, band)
        self.unsorted = words
        few = 1 << band.width <= TABLE_SHARE * len(rows)
        self.table = np.searchsorted(self.sought, np.arange((1 << band.width) + 1, dtype=np.uint64)) if few else None

    @cached_property
    def sought(self) -> np.ndarray:
        """The keys side by side in memory, as numbers that can be searched."""
        return np.ascontiguousarray(self.keys, np.uint64)

    @cached_property
    def words(self) -> np.ndarray:
        """The hashes in this order, side by side in memory."""
        return self.unsorted[:, self.order]

    def among(self, distance: int) -> Hits:
        """Pairs of positions with the same key."""
        rows = _repeated(self.keys)
        last = np.append(np.diff(rows) > 1, True)[: len(rows)]  # of a run of equal keys
        ends = rows[last] + 2
        stop = ends[np.searchsorted(ends, rows + 1, "right")]
        yield from self._pairs(rows, None, rows, rows + 1, stop, distance)

    def within(self, keys: np.ndarray, rows: np.ndarray, others: np.ndarray | None, places: np.ndarray, distance: int) -> Hits:
        """Pairs (row, position) where the position has the row's key; the row's hash is ``others[:, place]``, or of these hashes where there are no others."""
        if self.table is not None:
            start, stop = self.table[keys], self.table[keys + np.uint64(1)]
        else:
            start, stop = np.searchsorted(self.sought, keys, "left"), np.searchsorted(self.sought, keys, "right")
        some = start < stop
        yield from self._pairs(rows[some], others, places[some], start[some], stop[some], distance)

    def _pairs(self, rows: np.ndarray, others: np.ndarray | None, places: np.ndarray, start: np.ndarray, stop: np.ndarray, distance: int) -> Hits:
        crowded = int((stop - start).sum()) > len(self.keys)
        for begin in range(0, len(rows), BLOCK):
            part = slice(begin, begin + BLOCK)
            row, place, at, end = rows[part], places[part], start[part], stop[part]
            while len(row):
                if not crowded:
                    yield row, at
                elif len(near := self._near(self.words if others is None else others, place, at, distance)):
                    yield row[near], at[near]
                at = at + 1
                more = at < end
                row, place, at, end = row[more], place[more], at[more], end[more]

    def _near(self, others: np.ndarray, place: np.ndarray, at: np.ndarray, distance: int) -> np.ndarray:
        """Which (place, position) differ in at most ``distance`` bits: word after word, among those that still may."""
        left = np.arange(len(place))
        bits = np.zeros(len(place), np.int64)
        for word in range(len(self.words)):
            bits = bits + np.bitwise_count(others[word][place[left]] ^ self.words[word][at[left]])
            few = bits <= distance
            left, bits = left[few], bits[few]
        return left


def _table(hashes: np.ndarray) -> np.ndarray:
    """(N, bytes) uint8 as (N, words) uint64, filled up with zeros."""
    missing = -hashes.shape[1] % 8
    padded = np.pad(hashes, ((0, 0), (0, missing))) if missing else np.ascontiguousarray(hashes)
    return padded.view("<u8").astype(np.uint64, copy=False)


def _words(table: np.ndarray) -> np.ndarray:
    """(words, N), each word's column side by side in memory."""
    return np.ascontiguousarray(table.T)


def _keys(words: np.ndarray, band: Band) -> np.ndarray:
    """The band's bits as one number per hash."""
    word, shift = divmod(band.start, WORD)
    keys = words[word] >> np.uint64(shift)
    if shift and shift + band.width > WORD:
        keys |= words[word + 1] << np.uint64(WORD - shift)
    keys &= np.uint64((1 << band.width) - 1)
    return keys


def _sorted(words: np.ndarray, rows: np.ndarray, band: Band) -> tuple[np.ndarray, np.ndarray]:
    """``rows`` in the stable order of their keys, and the keys in it.

    Key and row sorted as one number are several times faster than argsort, and both halves are read in place.
    """
    if band.width > HALF:
        keys = _keys(words[:, rows], band)
        order = np.argsort(keys, kind="stable")
        return rows[order], keys[order]
    packed = np.empty(len(rows), np.uint64)
    for part, own in _slices(rows):
        np.bitwise_or(_keys(words[:, own], band) << HALF, rows[part], out=packed[part])
    return _halves(packed)


def _slices(rows: np.ndarray) -> Iterator[tuple[slice, slice | np.ndarray]]:
    """Ascending rows by blocks that stay in the cache: their places in ``rows``, and what takes them from a column."""
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        first, last = int(part[0]), int(part[-1])
        yield slice(start, start + BLOCK), slice(first, last + 1) if last - first == len(part) - 1 else part


def _halves(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorts in place; the lower and the upper 32 bits."""
    packed.sort()
    halves = packed.astype("<u8", copy=False).view("<u4")
    return halves[0::2], halves[1::2]


def _repeated(keys: np.ndarray) -> np.ndarray:
    """Positions of sorted keys that the next one equals."""
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(keys) - 1, BLOCK):
        after = keys[start + 1 : start + BLOCK + 1]
        found.append(start + np.flatnonzero(after == keys[start : start + len(after)]))
    return np.concatenate(found)


def _copies(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows with the hash of an earlier one: the first row with it, and the row."""
    packed = np.empty(words.shape[1], np.uint64)
    for start in range(0, len(packed), BLOCK):
        mixed = np.zeros(len(packed[start : start + BLOCK]), np.uint64)
        for word in words[:, start : start + BLOCK]:
            mixed ^= word
            mixed *= MIX
        packed[start : start + BLOCK] = mixed >> HALF << HALF | np.arange(start, start + len(mixed), dtype=np.uint64)
    order, keys = _halves(packed)
    again = _repeated(keys)
    rows = np.union1d(order[again], order[again + 1]).astype(np.int64)  # most rows share their key with none
    few = words[:, rows]
    order = np.lexsort(few)
    new = np.ones(len(order), bool)
    new[1:] = (few[:, order[1:]] != few[:, order[:-1]]).any(0)
    rows = rows[order]
    return rows[new][np.cumsum(new) - 1][~new], rows[~new]


def _distinct(codes: list[np.ndarray]) -> np.ndarray:
    """All numbers once, sorted."""
    every = np.concatenate([np.zeros(0, np.uint64), *codes])
    every.sort()
    new = np.ones(len(every), bool)
    np.not_equal(every[1:], every[:-1], out=new[1:])
    return every[new]
