"""Ratings recover known strengths with the error that theory expects, and intervals hold what they say."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from qi2.arena.rating import CENTRE, PRIOR, SCALE, Comparison, fit, information, rate, wins_by_prompt

NAMES = ["a", "b", "c", "d"]
STRENGTHS = np.array([-0.9, -0.3, 0.3, 0.9])  # log-odds
TIES = 0.3


def votes(seed: int, count: int, prompts: int, effect: float = 0.0, ties: float = TIES) -> list[Comparison]:
    """Random votes between entrants of known strengths, which differ by prompt with deviation ``effect``; ties keep the expected score."""
    rng = np.random.default_rng(seed)
    of_prompt = rng.normal(0, effect, (prompts, len(NAMES)))
    found = []
    for _ in range(count):
        prompt, (i, j) = rng.integers(prompts), rng.choice(len(NAMES), 2, replace=False)
        expected = 1 / (1 + math.exp(STRENGTHS[j] - STRENGTHS[i] + of_prompt[prompt, j] - of_prompt[prompt, i]))
        tie, draw = ties * 2 * min(expected, 1 - expected), rng.random()
        score = 1.0 if draw < expected - tie / 2 else 0.5 if draw < expected + tie / 2 else 0.0
        found.append(Comparison(NAMES[i], NAMES[j], score, f"p{prompt}"))
    return found


def elo(ratings: object) -> dict[str, float]:
    return {row.entrant: row.elo for row in ratings.rows}  # type: ignore[attr-defined]


def test_two_entrants_by_hand() -> None:
    """Three of four votes won are odds of 3 and 400 log10(3) = 190.85 points; a tie is half a win for each, so 2 wins and 2 ties are the same."""
    for scores in ([1, 1, 1, 0], [1, 1, 0.5, 0.5]):
        found = elo(rate([Comparison("x", "y", s, str(i)) for i in range(1000) for s in scores], resamples=2))
        assert found["x"] - found["y"] == pytest.approx(190.85, abs=0.05)
        assert (found["x"] + found["y"]) / 2 == pytest.approx(CENTRE)


def test_the_fit_is_the_maximum_of_the_likelihood() -> None:
    wins = wins_by_prompt(NAMES, votes(0, 60, 5)).sum(axis=0)

    def loss(s: np.ndarray) -> float:
        games = (wins * np.log1p(np.exp(s[None, :] - s[:, None]))).sum()
        return float(games + PRIOR * 0.5 * (np.log1p(np.exp(-s)) + np.log1p(np.exp(s))).sum())

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(fit(wins), best - best.mean(), atol=1e-6)


def test_many_fits_at_once_are_the_single_ones() -> None:
    wins = np.stack([wins_by_prompt(NAMES, votes(seed, 50, 3)).sum(axis=0) for seed in range(4)])
    np.testing.assert_allclose(fit(wins), [fit(one) for one in wins], atol=1e-8)


def test_who_has_won_everything_has_a_finite_rating_and_no_certain_one() -> None:
    rows = rate([Comparison("x", "y", 1.0, str(i)) for i in range(50)]).rows
    assert [row.entrant for row in rows] == ["x", "y"] and all(math.isfinite(value) for row in rows for value in (row.elo, row.low, row.high))
    assert rows[0].high - rows[0].low > 100 and rows[0].low > rows[1].high


def test_ties_alone_are_not_certainty() -> None:
    """By hand: n votes at p = 1/2 and the prior have the information (n + PRIOR) / 4 on the diagonal and -n / 4 beside it."""
    row = rate([Comparison("x", "y", 0.5, str(i)) for i in range(8)]).rows[0]
    variance = 1 / (8 / 4 + PRIOR / 4 + 8 / 4)  # of half the difference: the eigenvalue for (1, -1) / sqrt(2), whose share of x is 1/2
    assert row.high - row.elo == pytest.approx(2.3646 * SCALE * math.sqrt(variance / 2), rel=1e-4)  # t of 7 degrees of freedom


def test_known_strengths_are_recovered_with_the_expected_error() -> None:
    """The root mean square error over simulations is that of the inverse Fisher information, without ties and without differences between prompts."""
    count, repeats = 400, 120
    errors = []
    for seed in range(repeats):
        found = elo(rate(votes(seed, count, 40, ties=0.0), resamples=2))
        errors.append([found[name] - CENTRE - SCALE * s for name, s in zip(NAMES, STRENGTHS, strict=True)])
    p = 1 / (1 + np.exp(STRENGTHS[None, :] - STRENGTHS[:, None]))
    weight = count / 6 * p * (1 - p) * (1 - np.eye(4))
    expected = SCALE * np.sqrt(np.diag(np.linalg.pinv(np.diag(weight.sum(axis=1)) - weight)))
    measured = np.sqrt(np.mean(np.square(errors), axis=0))
    np.testing.assert_allclose(measured, expected, rtol=0.2)
    assert np.abs(np.mean(errors, axis=0)).max() < 3 * expected.max() / math.sqrt(repeats)  # unbiased as far as can be seen


@pytest.mark.parametrize(("count", "prompts", "effect"), [(200, 10, 0.0), (300, 20, 0.7)])
def test_intervals_cover_the_truth_as_often_as_they_say(count: int, prompts: int, effect: float) -> None:
    """Few prompts, ties, and strengths that differ by prompt: 95 of 100 intervals hold the truth, up to the error of 400 intervals."""
    truth = dict(zip(NAMES, CENTRE + SCALE * _average_strengths(effect), strict=True))
    held = []
    for seed in range(100):
        for row in rate(votes(seed, count, prompts, effect), seed=seed, resamples=200).rows:
            held.append(row.low <= truth[row.entrant] <= row.high)
    assert 0.92 <= np.mean(held) <= 0.98


def _average_strengths(effect: float) -> np.ndarray:
    """Strengths by expected scores averaged over prompts."""
    difference = np.random.default_rng(0).normal(0, effect * math.sqrt(2), 20000)
    scores = [[np.mean(1 / (1 + np.exp(b - a + difference))) * (a != b) for b in STRENGTHS] for a in STRENGTHS]
    return fit(1e5 * np.array(scores))


def test_repeated_votes_on_a_prompt_do_not_narrow_the_interval() -> None:
    """Ten copies of every vote say nothing new about other prompts; single votes drawn one by one would claim a third of the width."""
    once = votes(3, 300, 30)
    one, many = rate(once), rate([vote for vote in once for _ in range(10)])
    for a, b in zip(one.rows, many.rows, strict=True):
        assert (b.high - b.low) == pytest.approx(a.high - a.low, rel=0.02)


def test_the_same_votes_in_any_order_give_the_same_figures() -> None:
    found = votes(1, 100, 10)
    assert rate(found) == rate(found[::-1])
    turned = [Comparison(v.second, v.first, 1 - v.score, v.prompt) for v in found]
    assert [(row.entrant, row.rank, row.votes) for row in rate(turned).rows] == [(row.entrant, row.rank, row.votes) for row in rate(found).rows]
    assert elo(rate(turned)) == pytest.approx(elo(rate(found)))


def test_a_rank_is_shared_where_nobody_is_better_beyond_chance() -> None:
    even = rate([Comparison("x", "y", score, str(i)) for i in range(20) for score in (1.0, 0.0)])
    assert [row.rank for row in even.rows] == [1, 1]
    clear = rate([Comparison("x", "y", float(i % 10 > 0), str(i)) for i in range(100)])
    assert [(row.entrant, row.rank) for row in clear.rows] == [("x", 1), ("y", 2)]


def test_equals_are_seldom_ranked_apart() -> None:
    """Six pairs of four equal entrants, each at 95 % alone, would rank somebody below another in a fifth of the leaderboards."""
    rng = np.random.default_rng(0)
    apart = 0
    for seed in range(100):
        pairs = [(NAMES[i], NAMES[j]) for i, j in (rng.choice(4, 2, replace=False) for _ in range(200))]
        found = rate([Comparison(i, j, float(rng.integers(2)), str(k % 20)) for k, (i, j) in enumerate(pairs)], seed, resamples=200)
        apart += any(row.rank > 1 for row in found.rows)
    assert apart <= 10


def test_groups_that_never_met_are_told() -> None:
    apart = [Comparison("a", "b", 1.0, "p"), Comparison("c", "d", 1.0, "q")]
    assert not rate(apart).connected and rate([*apart, Comparison("b", "c", 0.5, "q")]).connected


def test_one_prompt_says_nothing_beyond_itself() -> None:
    found = rate([Comparison("a", "b", 1.0, "p")] * 20)
    assert [row.rank for row in found.rows] == [1, 1] and found.rows[0].low == -math.inf
    assert found.to_json()["rows"][0]["low"] is None and rate([]).rows == ()


def test_information_falls_with_votes_and_with_certainty() -> None:
    assert information(np.array([0.0]), np.array([0.5]))[0] == pytest.approx(0.5 * (1 - 1 / math.sqrt(2)))
    assert information(np.array([10.0]), np.array([0.5])) < information(np.array([1.0]), np.array([0.5]))
    assert information(np.array([1.0]), np.array([0.99])) < information(np.array([1.0]), np.array([0.5]))
