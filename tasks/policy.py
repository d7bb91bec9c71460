"""The promotion policy of ``mlflow/promotion.yaml``: what is asked of a model, checked one by one. Pure functions.

Every check keeps what was required and what was found, so that a decision can be read, and questioned, later.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from qi2.core.errors import QI2Error
from qi2.evaluation.bootstrap import Bootstrap

BUDGETS = ("seconds_per_image", "bundle_mib")


@dataclass(frozen=True)
class Policy:
    """The rules of one scale."""

    model: str
    bundle: list[str]
    thresholds: dict[str, dict[str, Any]] = field(default_factory=dict)
    not_worse: list[dict[str, Any]] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    budgets: dict[str, float] = field(default_factory=dict)
    licences: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. ``said``: a sentence where it failed, else what was found."""

    name: str
    required: str
    passed: bool
    said: str


def read_policy(path: Path, scale: str, own_images: bool = False) -> Policy:
    """The default rules, in their place those for a user's images and the scale's own.

    Raises QI2Error for an unknown section, budget or rule of licences.
    """
    rules = yaml.safe_load(path.read_text())
    values = {**rules["default"], **(rules["own_images"] if own_images else {}), **rules.get(scale, {})}
    known = {"section": Policy.__dataclass_fields__, "budget": BUDGETS, "rule of licences": ("allowed", "refused")}
    given = {"section": values, "budget": values.get("budgets", {}), "rule of licences": values.get("licences", {})}
    for what, names in given.items():
        if unknown := set(names) - set(known[what]):
            raise QI2Error(f"{path}: unknown {what} {sorted(unknown)[0]!r}; known are {', '.join(known[what])}")
    return Policy(**values)


def objections(checks: Sequence[Check]) -> list[str]:
    """Why a model does not become champion, one sentence for each failed check."""
    return [check.said for check in checks if not check.passed]


def threshold_checks(policy: Policy, figures: Mapping[str, Mapping[str, float]]) -> list[Check]:
    """Every figure that the policy asks for, against its limits."""
    return [_threshold(name, rule, figures.get(name)) for name, rule in policy.thresholds.items()]


def _threshold(name: str, rule: Mapping[str, Any], figure: Mapping[str, float] | None) -> Check:
    required = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in rule.items())
    if figure is None:
        return Check(name, required, False, f"{name} was not measured, and the policy asks for it")
    ends = ("low", "high") if rule.get("by") == "interval" else ("value", "value")
    if "at_least" in rule and not figure[ends[0]] >= rule["at_least"]:
        return Check(name, required, False, f"{name}: {_said(figure, ends[0])} is below {rule['at_least']}")
    if "at_most" in rule and not figure[ends[1]] <= rule["at_most"]:
        return Check(name, required, False, f"{name}: {_said(figure, ends[1])} is above {rule['at_most']}")
    return Check(name, required, True, f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")


def _said(figure: Mapping[str, float], end: str) -> str:
    number = f"{figure[end]:.3f}"
    if end == "value":
        return number
    return f"the {'lower' if end == 'low' else 'upper'} end {number} of its interval (value {figure['value']:.3f})"


def champion_checks(policy: Policy, challenger: Mapping[str, Any], champion: Mapping[str, Any], seed: int = 0) -> list[Check]:
    """Whether the challenger may be worse than the champion, over whole suites and in single categories; both are results.json of the evaluation."""
    checks = []
    for rule in policy.not_worse:
        pair = _pair(policy, rule, challenger, champion)
        if isinstance(pair, Check):
            checks.append(pair)
        elif pair is not None:
            checks.append(_suite(rule, Bootstrap(seed), *pair))
    for rule in policy.categories:
        pair = _pair(policy, rule, challenger, champion)
        if pair is not None and not isinstance(pair, Check):
            kinds = [item["kind"] for item in challenger[rule["suite"]]["items"]]
            checks += _by_category(rule, kinds, *pair, seed)
    return checks


def _pair(
    policy: Policy, rule: Mapping[str, Any], challenger: Mapping[str, Any], champion: Mapping[str, Any]
) -> tuple[list[float], list[float]] | Check | None:
    """Verdicts of both on the same prompts; a failed check where the prompts are others, None where one of them has no verdicts."""
    suite, verdict = rule["suite"], rule["verdict"]
    if challenger["suite"]["hashes"].get(suite) != champion["suite"]["hashes"].get(suite):
        said = f"{suite}: the champion was measured on other prompts; run nightly-eval/prod, which measures both on the same"
        return Check(f"{suite}/{verdict} against the champion", "the same prompts", False, said)
    ours, theirs = (_verdicts(results, suite, policy.model, verdict) for results in (challenger, champion))
    return (ours, theirs) if ours and theirs else None


def _suite(rule: Mapping[str, Any], boot: Bootstrap, ours: list[float], theirs: list[float]) -> Check:
    name, margin, gap = f"{rule['suite']}/{rule['verdict']}", float(rule["margin"]), boot.difference(ours, theirs)
    interval = f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] on {gap.n} prompts"
    passed = gap.low >= -margin
    said = interval if passed else f"{name}: the difference to the champion is {interval}; its lower end is below {-margin:+.3f}"
    return Check(f"{name} against the champion", f"lower end at least {-margin:+.3f}", passed, said)


def _by_category(rule: Mapping[str, Any], kinds: list[str], ours: list[float], theirs: list[float], seed: int) -> list[Check]:
    """Each category by an interval that is wider the more there are (Bonferroni): all hold together with 95 %."""
    checks, found = [], list(dict.fromkeys(kinds))
    boot = Bootstrap(seed, resamples=4000, level=1 - 0.05 / len(found))
    for kind in found:
        gap = boot.difference(*([value for value, own in zip(values, kinds, strict=True) if own == kind] for values in (ours, theirs)))
        name, interval = f"{rule['suite']}/{rule['verdict']} of {kind}", f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] on {gap.n} prompts"
        passed = gap.high >= 0
        said = interval if passed else f"{name}: worse than the champion, {interval} (interval for {len(found)} categories at once)"
        checks.append(Check(f"{name} against the champion", "not worse beyond its interval", passed, said))
    return checks


def _verdicts(results: Mapping[str, Any], suite: str, model: str, verdict: str) -> list[float]:
    return [float(row[verdict]) for row in results.get(suite, {}).get("results", {}).get(model, [])]


def budget_checks(policy: Policy, measured: Mapping[str, float]) -> list[Check]:
    """What the model costs in use, against what it may cost; one that was not measured fails."""
    checks = []
    for name, limit in policy.budgets.items():
        found = measured.get(name)
        said = f"{name}: {'not measured' if found is None else f'{found:.3g}'}, and the budget is {limit:g}"
        passed = found is not None and found <= limit
        checks.append(Check(name, f"at most {limit:g}", passed, f"{found:.3g}" if passed else said))
    return checks


def licence_checks(policy: Policy, rows: Mapping[str, int]) -> list[Check]:
    """Every licence of the training rows against the policy; patterns as in file names, whatever the case. An empty ``allowed`` allows any."""
    allowed, refused = (policy.licences.get(name, []) for name in ("allowed", "refused"))
    required = "; ".join(f"{name} {', '.join(patterns)}" for name, patterns in (("allowed", allowed), ("refused", refused)) if patterns) or "any"
    checks = []
    for licence, count in sorted(rows.items()):
        passed = (not allowed or _matches(licence, allowed)) and not _matches(licence, refused)
        said = f"{count} training rows have the licence {licence!r}, which the policy does not allow; set their opt_out, or remove them, and train again"
        checks.append(Check(f"licence {licence}", required, passed, f"{count} rows" if passed else said))
    return checks


def _matches(licence: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(licence.lower(), pattern.lower()) for pattern in patterns)


def read_results(folder: Path) -> dict[str, Any]:
    """results.json of an evaluation."""
    return json.loads((folder / "results.json").read_text())  # type: ignore[no-any-return]
