"""The promotion policy of ``mlflow/promotion.yaml``: thresholds, and not worse than the champion on the same prompts. Pure functions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from qi2.core.errors import QI2Error
from qi2.evaluation.bootstrap import Bootstrap


@dataclass(frozen=True)
class Policy:
    """The rules of one scale."""

    model: str
    bundle: list[str]
    thresholds: dict[str, dict[str, Any]] = field(default_factory=dict)
    not_worse: list[dict[str, Any]] = field(default_factory=list)


def read_policy(path: Path, scale: str, own_images: bool = False) -> Policy:
    """The default rules, in their place those for a user's images and the scale's own. Raises QI2Error for an unknown section."""
    rules = yaml.safe_load(path.read_text())
    values = {**rules["default"], **(rules["own_images"] if own_images else {}), **rules.get(scale, {})}
    if unknown := set(values) - set(Policy.__dataclass_fields__):
        raise QI2Error(f"{path}: unknown section {sorted(unknown)[0]!r}; known are {', '.join(Policy.__dataclass_fields__)}")
    return Policy(**values)


def failed_thresholds(policy: Policy, figures: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Why the figures do not suffice, one sentence each; empty when they do."""
    return [reason for name, rule in policy.thresholds.items() if (reason := _threshold(name, rule, figures.get(name)))]


def _threshold(name: str, rule: Mapping[str, Any], figure: Mapping[str, float] | None) -> str | None:
    if figure is None:
        return f"{name} was not measured, and the policy asks for it"
    ends = ("low", "high") if rule.get("by") == "interval" else ("value", "value")
    if "at_least" in rule and not figure[ends[0]] >= rule["at_least"]:
        return f"{name}: {_said(figure, ends[0])} is below {rule['at_least']}"
    if "at_most" in rule and not figure[ends[1]] <= rule["at_most"]:
        return f"{name}: {_said(figure, ends[1])} is above {rule['at_most']}"
    return None


def _said(figure: Mapping[str, float], end: str) -> str:
    number = f"{figure[end]:.3f}"
    if end == "value":
        return number
    return f"the {'lower' if end == 'low' else 'upper'} end {number} of its interval (value {figure['value']:.3f})"


def worse_than_champion(policy: Policy, challenger: Mapping[str, Any], champion: Mapping[str, Any], seed: int = 0) -> list[str]:
    """Why the challenger may be worse than the champion, one sentence each; both are results.json of the evaluation."""
    reasons = []
    for rule in policy.not_worse:
        suite, verdict, margin = rule["suite"], rule["verdict"], float(rule["margin"])
        if challenger["suite"]["hashes"].get(suite) != champion["suite"]["hashes"].get(suite):
            reasons.append(f"{suite}: the champion was measured on other prompts; run nightly-eval/prod, which measures both on the same")
            continue
        ours, theirs = (_verdicts(results, suite, policy.model, verdict) for results in (challenger, champion))
        if not ours or not theirs:
            continue
        gap = Bootstrap(seed).difference(ours, theirs)
        if gap.low < -margin:
            interval = f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] on {gap.n} prompts"
            reasons.append(f"{suite}/{verdict}: the difference to the champion is {interval}; its lower end is below {-margin:+.3f}")
    return reasons


def _verdicts(results: Mapping[str, Any], suite: str, model: str, verdict: str) -> list[float]:
    return [float(row[verdict]) for row in results[suite]["results"].get(model, [])]


def read_results(folder: Path) -> dict[str, Any]:
    """results.json of an evaluation."""
    return json.loads((folder / "results.json").read_text())  # type: ignore[no-any-return]
