"""Bradley-Terry ratings on the Elo scale from pairwise votes, with intervals (report section 5.1, Figure 12).

P(i beats j) = 1 / (1 + exp(s_j - s_i)), fitted by maximum likelihood. A tie is half a win for each, as in Elo and on LMArena: what is fitted is the
expected score, so strengths are those by which a win counts 1, a tie 1/2 and a loss 0. A prior worth ``PRIOR`` ties of every entrant against one of
average strength keeps the fit finite where somebody has won everything. Votes on one prompt belong together: the bootstrap draws prompts, not votes;
where all draws are alike (all ties, or never beaten) it would claim certainty, and the inverse Fisher information stands in.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.stats import t as student

from qi2.core.rng import numpy_rng

SCALE = 400.0 / np.log(10.0)  # Elo points per unit of log-odds
CENTRE = 1000.0  # mean rating of the entrants that were voted on
LEVEL = 0.95
PRIOR = 1.0  # ours: of 0.1, 0.5 and 1 the smallest error at few votes, and no worse intervals (docs/arena.md)
TOLERANCE, STEP, ITERATIONS = 1e-9, 2.0, 200
ALIKE = 1e-6  # log-odds; draws that deviate less are all alike
RESAMPLES = 500

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """One vote: the score of ``first`` (1, 0.5 or 0) against ``second`` on a prompt."""

    first: str
    second: str
    score: float
    prompt: str


@dataclass(frozen=True)
class Rating:
    """An entrant's place. ``rank`` is 1 + the number of entrants that are better beyond chance; ``low`` and ``high`` are Elo."""

    entrant: str
    rank: int
    elo: float
    low: float
    high: float
    score: float  # mean over its votes: win 1, tie 0.5, loss 0
    votes: int


@dataclass(frozen=True)
class Ratings:
    """Best first. Without ``connected``, some entrants have not met even through others, and ratings across such groups say nothing yet."""

    rows: tuple[Rating, ...]
    votes: int
    prompts: int
    connected: bool

    def to_json(self) -> dict[str, Any]:
        """The form that a leaderboard file holds; an infinite end of an interval is null."""
        rows = [{name: None if value in (np.inf, -np.inf) else value for name, value in asdict(row).items()} for row in self.rows]
        return {**asdict(self), "rows": rows}


def rate(comparisons: Sequence[Comparison], seed: int = 0, resamples: int = RESAMPLES) -> Ratings:
    """Ratings of every entrant that occurs. The same votes in any order give the same figures.

    Intervals are ``elo`` +- t * deviation of the bootstrap, t with (prompts - 1) degrees of freedom: percentiles are too narrow for few prompts.
    With a single prompt nothing can be said beyond it, and intervals are infinite. Ranks compare all pairs, so each difference is held against its
    interval at a level that is corrected for their number (Bonferroni): among equals, 95 of 100 leaderboards rank nobody below another.
    """
    names = sorted({name for c in comparisons for name in (c.first, c.second)})
    if not names:
        return Ratings((), 0, 0, True)
    wins = wins_by_prompt(names, comparisons)
    total, prompts = wins.sum(axis=0), len(wins)
    strengths = fit(total)
    draws, covariance = fit(_resampled(wins, seed, resamples)), _covariance(total, strengths)
    variance = np.diag(covariance)
    half = SCALE * _half_width(draws, variance, prompts)
    apart = _half_width(
        draws[:, :, None] - draws[:, None, :], variance[:, None] + variance[None, :] - 2 * covariance, prompts, len(names) * (len(names) - 1) // 2
    )
    better = strengths[:, None] - strengths[None, :] > apart  # never where the interval is infinite
    votes = (total + total.T).sum(axis=1)
    elo = CENTRE + SCALE * strengths
    ranks, scores = 1 + better.sum(axis=0), total.sum(axis=1) / votes
    columns = zip(names, ranks, elo, elo - half, elo + half, scores, votes, strict=True)
    found = [Rating(name, int(rank), float(r), float(low), float(high), float(score), round(n)) for name, rank, r, low, high, score, n in columns]
    rows = sorted(found, key=lambda row: (-row.elo, row.entrant))
    return Ratings(tuple(rows), len(comparisons), prompts, connected_components(total + total.T, directed=False)[0] == 1)


def fit(wins: Array) -> Array:
    """Strengths (..., n) in log-odds with mean 0, from scores (..., n, n) of row against column; Newton's method, all leading indices at once."""
    games = wins + np.swapaxes(wins, -1, -2)
    strengths = np.zeros(wins.shape[:-1])
    for _ in range(ITERATIONS):
        expected = _logistic(strengths[..., :, None] - strengths[..., None, :])
        gradient = (wins - games * expected).sum(axis=-1) + PRIOR * (0.5 - _logistic(strengths))
        if np.abs(gradient).max(initial=0.0) < TOLERANCE:
            break
        step = np.linalg.solve(_fisher(games, strengths), gradient[..., None])[..., 0]
        longest = np.abs(step).max(axis=-1, keepdims=True)
        strengths = strengths + step * np.minimum(1.0, STEP / np.maximum(longest, STEP))
    return strengths - strengths.mean(axis=-1, keepdims=True)


def wins_by_prompt(names: Sequence[str], comparisons: Sequence[Comparison]) -> Array:
    """Scores (P, n, n) of row against column on every prompt, prompts in the order of their names."""
    place = {name: i for i, name in enumerate(names)}
    prompts = {prompt: i for i, prompt in enumerate(sorted({c.prompt for c in comparisons}))}
    wins = np.zeros((len(prompts), len(names), len(names)))
    for c in comparisons:
        i, j, p = place[c.first], place[c.second], prompts[c.prompt]
        wins[p, i, j] += c.score
        wins[p, j, i] += 1.0 - c.score
    return wins


def information(games: Array, expected: Array) -> Array:
    """How much one more vote would narrow each pair: sqrt(p q / n) - sqrt(p q / (n + 1)), of (n, n) votes and expected scores (Chiang et al. 2024, eq. 9)."""
    deviation = np.sqrt(expected * (1 - expected))
    return deviation * (1 / np.sqrt(games + 1) - 1 / np.sqrt(games + 2))  # one vote ahead: a pair without votes has no deviation yet


def _resampled(wins: Array, seed: int, resamples: int) -> Array:
    """Summed scores (R, n, n) of prompts drawn with replacement."""
    prompts = len(wins)
    chosen = numpy_rng(seed, "arena/bootstrap", prompts).multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    return np.einsum("rp,pij->rij", chosen.astype(np.float64), wins, optimize=True)


def _fisher(games: Array, strengths: Array) -> Array:
    """Fisher information (..., n, n) of votes (..., n, n) and the prior, at strengths (..., n)."""
    expected, alone = _logistic(strengths[..., :, None] - strengths[..., None, :]), _logistic(strengths)
    weight = games * expected * (1 - expected)
    diagonal = weight.sum(axis=-1) + PRIOR * alone * (1 - alone)
    return diagonal[..., None] * np.eye(games.shape[-1]) - weight


def _covariance(total: Array, strengths: Array) -> Array:
    """Covariance (n, n) of strengths with mean 0, as the Fisher information has it."""
    centred = np.eye(len(total)) - 1 / len(total)
    return centred @ np.linalg.inv(_fisher(total + total.T, strengths)) @ centred


def _half_width(draws: Array, variance: Array, prompts: int, compared: int = 1) -> Array:
    """Half an interval, from draws (R, ...) of the bootstrap, or from the ``variance`` (...) where they are all alike; one of ``compared``."""
    if prompts < 2:
        return np.full(draws.shape[1:], np.inf)
    drawn = draws.std(axis=0) * np.sqrt(prompts / (prompts - 1))
    deviation = np.where(drawn > ALIKE, drawn, np.sqrt(np.maximum(variance, 0.0)))
    return student.ppf(1 - (1 - LEVEL) / 2 / max(compared, 1), prompts - 1) * deviation


def _logistic(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))
