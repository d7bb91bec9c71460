"""Exact statistics of attribution, with prompts as units: pictures of one prompt are alike, so that a hundred of them say less than a hundred prompts."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from qi2.core.rng import numpy_rng
from qi2.flywheel.attribution.cases import Tally

EXACT = 14  # prompts up to which every assignment of signs is tried
DRAWS = 20000


def effective(tallies: Sequence[Tally]) -> tuple[float, float]:
    """Right and tried pictures that as many independent pictures would be worth (Kish's design effect, from the spread between prompts)."""
    kept = [tally for tally in tallies if tally.tried]
    right, tried = sum(t.right for t in kept), sum(t.tried for t in kept)
    rate = right / tried if tried else 0.0
    if len(kept) < 2 or rate in (0.0, 1.0):
        return float(right), float(tried)
    each = tried / len(kept)
    between = sum(t.tried * (t.rate - rate) ** 2 for t in kept) / (len(kept) - 1)
    within = sum(t.tried * t.rate * (1 - t.rate) for t in kept) / max(tried - len(kept), 1)
    alike = min(1.0, max(0.0, (between - within) / (between + (each - 1) * within or 1.0)))
    worth = max(float(len(kept)), tried / (1 + (each - 1) * alike))
    return rate * worth, worth


def interval(tallies: Sequence[Tally], level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of the success rate."""
    from scipy.stats import beta

    right, tried = effective(tallies)
    if not tried:
        return 0.0, 1.0
    low = beta.ppf((1 - level) / 2, right, tried - right + 1) if right > 0 else 0.0
    high = beta.ppf((1 + level) / 2, right + 1, tried - right) if right < tried else 1.0
    return float(low), float(high)


def below(tallies: Sequence[Tally], bound: float) -> float:
    """p of success rates as low as these where the true one is ``bound``: the exact binomial's tail, continued to effective numbers."""
    from scipy.stats import beta

    right, tried = effective(tallies)
    return float(beta.cdf(1 - bound, max(tried - right, 1e-9), right + 1)) if tried and right < tried else 1.0


def above(tallies: Sequence[Tally], bound: float) -> float:
    """p of success rates as high as these where the true one is ``bound``."""
    return below([Tally(tally.tried - tally.right, tally.tried) for tally in tallies], 1 - bound)


def rises(before: Sequence[Tally], after: Sequence[Tally]) -> float:
    """One-sided p that ``after`` succeeds more often than ``before``, prompt by prompt: Fisher's test of one prompt, sign flips of several."""
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a.tried and b.tried]
    if not pairs:
        return 1.0
    if len(pairs) == 1:
        from scipy.stats import fisher_exact

        a, b = pairs[0]
        return float(fisher_exact([[b.right, b.tried - b.right], [a.right, a.tried - a.right]], alternative="greater").pvalue)
    return sign_flips(np.array([b.rate - a.rate for a, b in pairs]))


def sign_flips(differences: np.ndarray) -> float:
    """One-sided p that the mean difference is above 0: exact up to ``EXACT`` pairs, by fixed random flips beyond."""
    if len(differences) <= EXACT:
        signs = np.array(list(product((1.0, -1.0), repeat=len(differences))))
        return float((signs @ differences >= differences.sum() - 1e-12).mean())
    signs = numpy_rng(0, "flywheel/flips", len(differences)).choice([1.0, -1.0], size=(DRAWS, len(differences)))
    return float((1 + (signs @ differences >= differences.sum() - 1e-12).sum()) / (1 + DRAWS))


def lower(first: Sequence[float], second: Sequence[float]) -> float:
    """One-sided p that values of ``first`` lie below those of ``second`` (Mann and Whitney); 1 where one side has none."""
    if not len(first) or not len(second):
        return 1.0
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(first, second, alternative="less").pvalue)


def differ(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p that two groups of prompts have other success rates."""
    if not len(first) or not len(second) or len({*first, *second}) == 1:
        return 1.0
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(first, second, alternative="two-sided").pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for being one family (Holm, 1979), in their order."""
    order, corrected, highest = sorted(range(len(values)), key=lambda i: values[i]), [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = highest
    return corrected
