"""The promotion policy: thresholds, and not worse than the champion on the same prompts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qi2.core.errors import QI2Error
from tasks import settings
from tasks.policy import Policy, budget_checks, champion_checks, licence_checks, objections, read_policy, threshold_checks

RULE = [{"suite": "t2i", "verdict": "all", "margin": 0.05}]


def _results(right: int, n: int = 200, suite: str = "s") -> dict[str, Any]:
    rows = [{"all": index < right} for index in range(n)]
    return {"suite": {"hashes": {"t2i": suite}}, "t2i": {"results": {"distill": rows}}}


def _figure(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "n": 100}


def test_a_missed_threshold_is_named_with_its_figure() -> None:
    policy = Policy("distill", [], {"t2i/accuracy/distill": {"at_least": 0.6}})
    reasons = objections(threshold_checks(policy, {"t2i/accuracy/distill": _figure(0.55, 0.5, 0.7)}))
    assert reasons == ["t2i/accuracy/distill: 0.550 is below 0.6"]


def test_by_interval_the_lower_end_decides() -> None:
    policy = Policy("distill", [], {"x": {"at_least": 0.6, "by": "interval"}})
    assert objections(threshold_checks(policy, {"x": _figure(0.65, 0.55, 0.75)}))
    assert not objections(threshold_checks(policy, {"x": _figure(0.65, 0.61, 0.75)}))


def test_an_unmeasured_figure_is_no_pass() -> None:
    assert objections(threshold_checks(Policy("distill", [], {"x": {"at_least": 0.0}}), {}))
    assert objections(threshold_checks(Policy("distill", [], {"x": {"at_least": 0.0}}), {"x": _figure(float("nan"), 0, 0)}))


def test_the_same_model_is_not_worse_than_itself() -> None:
    assert objections(champion_checks(Policy("distill", [], {}, RULE), _results(150), _results(150))) == []


def test_a_clearly_worse_challenger_is_refused_with_the_interval() -> None:
    (reason,) = objections(champion_checks(Policy("distill", [], {}, RULE), _results(120), _results(150)))
    assert "-0.150" in reason
    assert "below -0.050" in reason


def test_other_prompts_are_no_comparison() -> None:
    (reason,) = objections(champion_checks(Policy("distill", [], {}, RULE), _results(150), _results(150, suite="other")))
    assert "nightly-eval" in reason


def test_the_policy_file_is_valid_for_every_scale() -> None:
    for scale in settings.SCALES:
        assert read_policy(settings.ROOT / "mlflow" / "promotion.yaml", scale).model == "distill"


def test_an_unknown_section_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("default: {model: x, bundle: [], treshholds: {}}")
    with pytest.raises(QI2Error, match="treshholds"):
        read_policy(path, "tiny")


def _by_kind(right: dict[str, int], n: int = 60) -> dict[str, Any]:
    """Results on ``n`` prompts of each kind, of which so many are right."""
    rows = [{"all": index < count} for count in right.values() for index in range(n)]
    return {"suite": {"hashes": {"t2i": "s"}}, "t2i": {"items": [{"kind": kind} for kind in right for _ in range(n)], "results": {"distill": rows}}}


def test_one_category_that_falls_is_refused_though_the_whole_rises() -> None:
    policy = Policy("distill", [], {}, RULE, [{"suite": "t2i", "verdict": "all"}])
    champion, challenger = _by_kind({"one": 30, "text": 40}), _by_kind({"one": 60, "text": 28})
    (reason,) = objections(champion_checks(policy, challenger, champion))
    assert reason.startswith("t2i/all of text: worse than the champion, -0.200")
    assert not objections(champion_checks(policy, _by_kind({"one": 30, "text": 39}), champion))


def test_ten_categories_of_equal_models_are_rarely_refused() -> None:
    """At one interval of 95 % for each, two of five equal challengers would be refused for some category."""
    policy = Policy("distill", [], {}, [], [{"suite": "t2i", "verdict": "all"}])
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        one, other = ({f"k{k}": draw.random(60) < 0.7 for k in range(10)} for _ in range(2))
        ours, theirs = ({**_by_kind(dict.fromkeys(rows, 0)), "t2i": _rows(rows)} for rows in (one, other))
        refused += bool(objections(champion_checks(policy, ours, theirs)))
    assert refused <= 6


def _rows(right: dict[str, Any]) -> dict[str, Any]:
    items = [{"kind": kind} for kind, values in right.items() for _ in values]
    return {"items": items, "results": {"distill": [{"all": bool(value)} for values in right.values() for value in values]}}


def test_a_budget_that_is_passed_or_was_not_measured_is_named() -> None:
    policy = Policy("distill", [], budgets={"seconds_per_image": 0.5, "bundle_mib": 10})
    assert objections(budget_checks(policy, {"seconds_per_image": 0.7, "bundle_mib": 9})) == ["seconds_per_image: 0.7, and the budget is 0.5"]
    assert objections(budget_checks(policy, {"bundle_mib": 9})) == ["seconds_per_image: not measured, and the budget is 0.5"]


def test_licences_are_allowed_and_refused_by_pattern() -> None:
    rows = {"CC0-1.0": 5, "CC-BY-NC-4.0": 2}
    (reason,) = objections(licence_checks(Policy("distill", [], licences={"refused": ["*-nc*"]}), rows))
    assert reason.startswith("2 training rows have the licence 'CC-BY-NC-4.0'")
    assert len(objections(licence_checks(Policy("distill", [], licences={"allowed": ["mit"]}), rows))) == 2
    assert not objections(licence_checks(Policy("distill", []), rows))
