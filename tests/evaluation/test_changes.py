"""What counts as a change: exact tests by hand, and how often a quiet night raises an alarm."""

from math import comb

import numpy as np
import pytest

from qi2.evaluation.changes import Change, holm, paired, unpaired


def _verdicts(right: list[int]) -> dict[str, bool]:
    return {str(i): bool(value) for i, value in enumerate(right)}


def test_only_prompts_that_changed_sides_count() -> None:
    """8 lost, 1 won: twice the tail of a fair coin, P(X >= 8) of 9 = (9 + 1) / 512."""
    change = paired("t2i", "before", _verdicts([1] * 8 + [0] + [1] * 91), _verdicts([0] * 8 + [1] + [1] * 91))
    assert change is not None
    assert change.p == pytest.approx(2 * (comb(9, 8) + comb(9, 9)) / 2**9)
    assert (change.before, change.now, change.n) == (0.99, 0.92, 100)


def test_the_same_verdicts_are_no_change_and_other_prompts_no_comparison() -> None:
    same = paired("t2i", "before", _verdicts([1, 0, 1]), _verdicts([1, 0, 1]))
    assert same is not None
    assert same.p == 1.0
    assert paired("t2i", "before", {"a": True}, {"b": True}) is None
    assert unpaired("t2i", "nights", 0, 0, 3, 4) is None


def test_shares_on_other_prompts_go_by_fisher() -> None:
    """1 of 4 against 3 of 4: of the 70 ways to place four right ones, those no likelier than this are 1 + 16 + 16 + 1."""
    change = unpaired("t2i", "nights", 3, 4, 1, 4)
    assert change is not None
    assert change.p == pytest.approx((1 + 16 + 16 + 1) / 70)


def test_corrected_values_are_holms() -> None:
    changes = [Change("a", "", 1, 0, 9, p) for p in (0.01, 0.04, 0.03)]
    assert [change.corrected for change in holm(changes)] == pytest.approx([0.03, 0.06, 0.06])
    assert [change.worse for change in holm(changes)] == [True, False, False]


def test_a_quiet_night_raises_an_alarm_at_most_once_in_twenty() -> None:
    draw, alarms = np.random.default_rng(0), 0
    for _ in range(400):
        family = []
        for _ in range(14):
            before, now = (draw.random(60) < 0.7 for _ in range(2))
            family.append(unpaired("x", "nights", int(before.sum()), 60, int(now.sum()), 60))
        alarms += any(change.beyond_chance for change in holm([change for change in family if change]))
    assert alarms / 400 < 0.05
