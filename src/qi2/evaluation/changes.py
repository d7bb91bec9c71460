"""What changed between two evaluations, beyond chance: exact tests, corrected for how many are made at once. Pure functions.

The same prompts and noise twice: McNemar's exact test of the prompts that changed sides. Other prompts: Fisher's exact test of the two shares.
All comparisons of one night are one family (Holm, 1979), so that a night on which nothing has changed reports something once in twenty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

LEVEL = 0.05


@dataclass(frozen=True)
class Change:
    """One comparison. ``name``: what was measured; ``against``: with what; shares of ``n`` prompts; ``p`` alone and ``corrected`` for the family."""

    name: str
    against: str
    before: float
    now: float
    n: int
    p: float
    corrected: float = 1.0

    @property
    def beyond_chance(self) -> bool:
        """Whether the family's level is kept."""
        return self.corrected < LEVEL

    @property
    def worse(self) -> bool:
        """A fall beyond chance."""
        return self.beyond_chance and self.now < self.before


def paired(name: str, against: str, before: Mapping[str, bool], now: Mapping[str, bool]) -> Change | None:
    """Right or wrong by prompt, on the prompts that both have; None where there are none."""
    shared = [key for key in now if key in before]
    if not shared:
        return None
    from scipy.stats import binomtest

    lost = sum(before[key] and not now[key] for key in shared)
    won = sum(now[key] and not before[key] for key in shared)
    p = float(binomtest(lost, lost + won, 0.5).pvalue) if lost + won else 1.0
    former, present = (sum(side[key] for key in shared) / len(shared) for side in (before, now))
    return Change(name, against, former, present, len(shared), p)


def unpaired(name: str, against: str, right_before: int, n_before: int, right_now: int, n_now: int) -> Change | None:
    """Counts on other prompts; None where one side has no prompt."""
    if not n_before or not n_now:
        return None
    from scipy.stats import fisher_exact

    table = [[right_now, n_now - right_now], [right_before, n_before - right_before]]
    return Change(name, against, right_before / n_before, right_now / n_now, n_now, float(fisher_exact(table).pvalue))


def holm(changes: Sequence[Change]) -> list[Change]:
    """The same with corrected p-values, in the same order."""
    order = sorted(range(len(changes)), key=lambda i: changes[i].p)
    corrected, highest = [0.0] * len(changes), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(changes) - rank) * changes[i].p))
        corrected[i] = highest
    return [replace(change, corrected=value) for change, value in zip(changes, corrected, strict=True)]
