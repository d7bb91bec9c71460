"""The promotion policy: thresholds, and not worse than the champion on the same prompts."""

from pathlib import Path
from typing import Any

import pytest

from qi2.core.errors import QI2Error
from tasks import settings
from tasks.policy import Policy, failed_thresholds, read_policy, worse_than_champion

RULE = [{"suite": "t2i", "verdict": "all", "margin": 0.05}]


def _results(right: int, n: int = 200, suite: str = "s") -> dict[str, Any]:
    rows = [{"all": index < right} for index in range(n)]
    return {"suite": {"hashes": {"t2i": suite}}, "t2i": {"results": {"distill": rows}}}


def _figure(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "n": 100}


def test_a_missed_threshold_is_named_with_its_figure() -> None:
    policy = Policy("distill", [], {"t2i/accuracy/distill": {"at_least": 0.6}})
    reasons = failed_thresholds(policy, {"t2i/accuracy/distill": _figure(0.55, 0.5, 0.7)})
    assert reasons == ["t2i/accuracy/distill: 0.550 is below 0.6"]


def test_by_interval_the_lower_end_decides() -> None:
    policy = Policy("distill", [], {"x": {"at_least": 0.6, "by": "interval"}})
    assert failed_thresholds(policy, {"x": _figure(0.65, 0.55, 0.75)})
    assert not failed_thresholds(policy, {"x": _figure(0.65, 0.61, 0.75)})


def test_an_unmeasured_figure_is_no_pass() -> None:
    assert failed_thresholds(Policy("distill", [], {"x": {"at_least": 0.0}}), {})
    assert failed_thresholds(Policy("distill", [], {"x": {"at_least": 0.0}}), {"x": _figure(float("nan"), 0, 0)})


def test_the_same_model_is_not_worse_than_itself() -> None:
    assert worse_than_champion(Policy("distill", [], {}, RULE), _results(150), _results(150)) == []


def test_a_clearly_worse_challenger_is_refused_with_the_interval() -> None:
    (reason,) = worse_than_champion(Policy("distill", [], {}, RULE), _results(120), _results(150))
    assert "-0.150" in reason
    assert "below -0.050" in reason


def test_other_prompts_are_no_comparison() -> None:
    (reason,) = worse_than_champion(Policy("distill", [], {}, RULE), _results(150), _results(150, suite="other"))
    assert "nightly-eval" in reason


def test_the_policy_file_is_valid_for_every_scale() -> None:
    for scale in settings.SCALES:
        assert read_policy(settings.ROOT / "mlflow" / "promotion.yaml", scale).model == "distill"


def test_an_unknown_section_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("default: {model: x, bundle: [], treshholds: {}}")
    with pytest.raises(QI2Error, match="treshholds"):
        read_policy(path, "tiny")
