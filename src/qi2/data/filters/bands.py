"""Bands of the bits of binary hashes, such that two hashes of which few bits differ agree in some band (Manku et al., 2007; Norouzi et al., 2012).

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
