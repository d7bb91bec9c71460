"""Shares of a sequence, exactly and in closed form: who stands at a position, and how often it came before.

A sequence is cut into cycles of ``length`` positions. Every label's quota in a cycle is its share of the length rounded down or up, and over
`rounds` cycles it is the share to one position; which cycle rounds up follows a bit-reversed count, so that quotas stay near their shares on
the way. Inside a cycle the labels are shuffled by (seed, purpose, cycle). Nothing is accumulated: any position is found without its past.
"""

from collections import OrderedDict

import numpy as np

from qi2.core import rng
from qi2.core.errors import QI2Error

FEWEST_ROUNDS, MOST_ROUNDS = 64, 1 << 20
KEPT = 2  # cycles kept in memory


class Interleave:
    """Labels 0 .. n-1 in the proportions of ``shares``, in cycles of ``length`` positions.

    Raises QI2Error where a share is so small that its label would not come in 2^20 cycles.
    """

    def __init__(self, shares: np.ndarray, length: int, seed: int, purpose: str) -> None:
        self.shares = np.asarray(shares, dtype=float) / np.sum(shares)
        self.length, self.seed, self.purpose = int(length), seed, purpose
        self.rounds = self._rounds()
        ends = np.floor(self.rounds * self.length * np.cumsum(self.shares) + 0.5).astype(np.int64)
        ends[np.flatnonzero(self.shares)[-1] :] = self.rounds * self.length
        self._ends = np.concatenate([[0], ends])
        self._before = np.concatenate([np.zeros((1, len(self.shares)), np.int64), np.cumsum(self._quotas(), axis=0)])
        self._kept: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def _rounds(self) -> int:
        """A power of two of cycles in which the rarest label comes at least once."""
        rarest = self.shares[self.shares > 0].min() * self.length
        rounds = FEWEST_ROUNDS
        while rounds * rarest < 1:
            rounds *= 2
            if rounds > MOST_ROUNDS:
                share = rarest / self.length
                raise QI2Error(f"{self.purpose}: a share of {share:.1e} never comes in {MOST_ROUNDS} x {self.length}; raise its weight or set it to 0")
        return rounds

    def _quotas(self) -> np.ndarray:
        """(rounds, n). Label g owns the numbers of [ends[g], ends[g + 1]); cycle j takes every ``rounds``-th number, from j's reversed bits on."""
        first = np.zeros(self.rounds, np.int64)
        for bit in range(self.rounds.bit_length() - 1):
            first = first * 2 + (np.arange(self.rounds) >> bit & 1)
        return np.diff(-(-(self._ends - first[:, None]) // self.rounds), axis=1)

    def quota(self, cycle: int) -> np.ndarray:
        """(n,) how often each label comes in a cycle; the sum is the length."""
        return np.asarray(self._before[cycle % self.rounds + 1] - self._before[cycle % self.rounds])

    def before(self, cycle: int) -> np.ndarray:
        """(n,) how often each label comes in all cycles before one."""
        return np.asarray(cycle // self.rounds * self._before[-1] + self._before[cycle % self.rounds])

    def cycle(self, cycle: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels (length,) of a cycle, and for each position how often its label came before it, from the very first cycle on."""
        if cycle not in self._kept:
            quota = self.quota(cycle)
            labels = rng.numpy_rng(self.seed, self.purpose, cycle).permutation(np.repeat(np.arange(len(quota)), quota))
            counts = np.empty(self.length, np.int64)
            counts[np.argsort(labels, kind="stable")] = np.concatenate([before + np.arange(n) for before, n in zip(self.before(cycle), quota, strict=True)])
            self._kept[cycle] = (labels, counts)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[cycle]

    def count(self, position: int) -> np.ndarray:
        """(n,) how often each label comes before a position."""
        cycle, rest = divmod(position, self.length)
        found = self.before(cycle)
        return found + np.bincount(self.cycle(cycle)[0][:rest], minlength=len(found)) if rest else found
