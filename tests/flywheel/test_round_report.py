"""The arithmetic of a round's report: closed, opened, unchanged, by track; untouched categories apart; other suites refused."""

import pytest

from qi2.core.errors import QI2Error
from qi2.evaluation.bootstrap import Bootstrap
from qi2.flywheel import report
from qi2.flywheel.attribution.decide import Decision

BOOT = Bootstrap(0, 200)


def side(**right: list[int]) -> dict[str, dict[str, bool]]:
    return {f"t2i/{kind}": {f"{kind}-{i}": bool(value) for i, value in enumerate(values)} for kind, values in right.items()}


def test_failures_are_closed_opened_or_unchanged() -> None:
    before, after = side(count=[0, 0, 0, 1, 1], one=[1, 1, 0]), side(count=[1, 1, 0, 0, 1], one=[1, 1, 0])
    categories = report.compare(before, after, {"t2i/count": ["rl"]}, BOOT)
    made = report.RoundReport(1, categories)
    assert made.by_track() == {"rl": {"closed": 2, "opened": 1, "unchanged": 1}, "untouched": {"closed": 0, "opened": 0, "unchanged": 1}}
    (count, one) = categories
    assert (count.before, count.after) == (0.4, 0.6)
    assert count.gain.value == pytest.approx(0.2)
    assert count.gain.low < 0.2 < count.gain.high
    assert (one.gain.value, one.worse) == (0.0, False)


def test_an_untouched_category_that_falls_beyond_chance_is_named() -> None:
    before, after = side(one=[1] * 30, two=[1] * 30, count=[0] * 30), side(one=[0] * 12 + [1] * 18, two=[1] * 29 + [0], count=[1] * 30)
    made = report.RoundReport(1, report.compare(before, after, {"t2i/count": ["rl"]}, BOOT))
    assert made.harmed() == ["t2i/one"]
    assert "Beyond chance worse: t2i/one" in report.verdict(made)


def test_a_category_of_a_track_is_not_among_the_untouched() -> None:
    before, after = side(count=[1] * 30), side(count=[0] * 30)
    assert report.RoundReport(1, report.compare(before, after, {"t2i/count": ["rl"]}, BOOT)).harmed() == []


def test_small_falls_of_many_categories_show_together() -> None:
    before, after = side(one=[1] * 30, two=[1] * 30, count=[0] * 30), side(one=[0, 0] + [1] * 28, two=[0, 0] + [1] * 28, count=[1] * 30)
    figure = report.untouched(before, after, {"t2i/count": ["rl"]}, BOOT)
    assert figure is not None
    assert (round(figure.value, 4), figure.n) == (-0.0667, 60)
    assert figure.high < 0


def test_other_prompts_are_refused() -> None:
    with pytest.raises(QI2Error, match="other prompts before and after"):
        report.compare(side(one=[1, 0]), side(one=[1, 0, 1]), {}, BOOT)
    with pytest.raises(QI2Error, match="other suites"):
        report.same_suite({"suite": {"hashes": {"t2i": "a"}}}, {"suite": {"hashes": {"t2i": "b"}}})


def test_results_are_read_by_category() -> None:
    results = {
        "t2i": {"items": [{"id": "one-0", "kind": "one"}], "results": {"rlhf": [{"all": True}]}},
        "edit": {"items": [{"id": "move-0", "kind": "move"}], "results": {"rlhf": [{"done": False}]}},
    }
    assert report.rights(results, "rlhf") == {"t2i/one": {"one-0": True}, "ti2i/edit/move": {"move-0": False}}
    assert report.rights(results, "sft") == {}


def test_every_category_has_the_tracks_that_act_on_it() -> None:
    decisions = [Decision("a", "rl", {}, ""), Decision("b", "prompt", {}, ""), Decision("c", "none", {}, "")]
    assert report.targets(decisions, {"a": "t2i/count", "b": "t2i/count", "c": "t2i/one"}) == {"t2i/count": ("prompt", "rl")}


def test_the_page_tells_what_was_done_and_where_it_comes_from() -> None:
    before, after = side(count=[0, 0, 1], one=[1, 1, 1]), side(count=[1, 1, 1], one=[1, 1, 1])
    made = report.RoundReport(2, report.compare(before, after, {"t2i/count": ["rl"]}, BOOT), {"reasons": ["counts fail"], "signals": "abc"})
    made.facts["verdict"] = report.verdict(made)
    page = report.markdown(made)
    assert "# Flywheel round 2" in page
    assert "- counts fail" in page
    assert "| t2i/count | rl | 3 | 0.333 | 1.000 |" in page
    assert "signals: `abc`" in page
    assert "No untouched category fell" in page
