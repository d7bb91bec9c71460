"""Search among binary hashes: nothing within the distance is missed and nothing beyond it is found."""

import numpy as np
import pytest

from qi2.data.filters import hamming
from qi2.data.filters.bands import plan
from qi2.data.filters.hamming import links, links_between

CASES = [(64, 0), (64, 3), (64, 6), (64, 7), (64, 10), (256, 7), (256, 15), (256, 31), (72, 5)]


def _hashes(bits: int, distance: int, n: int = 600) -> np.ndarray:
    """Random hashes, of which a third are copies with up to distance + 2 bits flipped."""
    draw = np.random.default_rng(bits + distance)
    flat = draw.integers(0, 2, (n, bits), dtype=np.uint8)
    for row in range(n // 3):
        copy = flat[draw.integers(n)].copy()
        copy[draw.choice(bits, draw.integers(0, distance + 3), replace=False)] ^= 1
        flat[draw.integers(n)] = copy
        if row < 20:
            flat[draw.integers(n)] = copy
    return np.packbits(flat, axis=1)


def _brute(hashes: np.ndarray, distance: int) -> set[tuple[int, int]]:
    flat = np.unpackbits(hashes, axis=1)
    apart = (flat[:, None] != flat[None]).sum(-1)
    first = [int(np.flatnonzero(row == 0)[0]) for row in apart]  # the first identical hash
    close = {(i, j) for i, j in zip(*np.nonzero(apart <= distance), strict=True) if i < j}
    return {(int(i), int(j)) for i, j in close if (first[i] == i and first[j] == j) or first[j] == i}


@pytest.mark.parametrize(("bits", "distance"), CASES)
def test_all_pairs_within_the_distance_are_found_and_no_others(bits: int, distance: int) -> None:
    hashes = _hashes(bits, distance)
    first, second = links(hashes, distance)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == sorted(_brute(hashes, distance))


@pytest.mark.parametrize(("bits", "distance"), [(64, 6), (256, 7), (256, 31)])
def test_no_pair_is_lost_where_blocks_and_waiting_pairs_end(bits: int, distance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = _hashes(bits, distance)
    expected = links(hashes, distance)
    monkeypatch.setattr(hamming, "BLOCK", 16)
    monkeypatch.setattr(hamming, "WAITING", 40)
    assert np.array_equal(links(hashes, distance), expected)


@pytest.mark.parametrize(("bits", "distance"), CASES)
def test_new_hashes_are_found_among_known_ones(bits: int, distance: int) -> None:
    hashes = _hashes(bits, distance)
    flat = np.unpackbits(hashes, axis=1)
    known, new = hashes[:400], hashes[400:]
    expected = np.argwhere((flat[:400, None] != flat[None, 400:]).sum(-1) <= distance)
    assert np.array_equal(np.stack(links_between(known, new, distance), axis=1), expected)


def test_bands_add_up_to_more_than_the_distance_and_do_not_overlap() -> None:
    for bits, distance in CASES:
        for n in (10, 10**5, 10**8):
            bands = plan(bits, distance, n)
            assert sum(band.radius + 1 for band in bands) > distance
            assert all(band.start + band.width <= after.start for band, after in zip(bands, bands[1:], strict=False))


def test_identical_hashes_are_paired_with_the_first_only() -> None:
    first, second = links(np.zeros((5000, 8), np.uint8), 3)
    assert first.tolist() == [0] * 4999
    assert second.tolist() == list(range(1, 5000))


def test_no_hashes_give_no_pairs() -> None:
    none = np.zeros((0, 8), np.uint8)
    assert [len(part) for part in links(none, 3)] == [0, 0]
    assert [len(part) for part in links_between(none, none, 3)] == [0, 0]
