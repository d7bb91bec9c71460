"""What a round changed: failures closed, opened and unchanged, on the same prompts and noise before and after, by track. Pure functions and a page of text.

A round is comparable only with itself before: the suites' hashes have to be equal. Categories that a track was meant to repair are apart from untouched
ones, whose falls are tested together as one family (Holm), so that a round that harms nothing says otherwise once in twenty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from qi2.core.errors import QI2Error
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.changes import Change, holm, paired
from qi2.flywheel.attribution.decide import Decision

VERDICTS = {"t2i": "all", "edit": "done"}
TASKS = {"t2i": "t2i", "edit": "ti2i"}
Right = Mapping[str, bool]


@dataclass(frozen=True)
class Category:
    """One category before and after. ``tracks``: those whose failures it has; none: untouched. ``gain``: paired, with its 95 % interval."""

    name: str
    tracks: tuple[str, ...]
    n: int
    before: float
    after: float
    closed: int
    opened: int
    failing: int  # before and after
    gain: Figure
    p: float  # of McNemar's exact test, corrected over the untouched ones where it is one of them
    worse: bool = False  # an untouched one that fell beyond chance


@dataclass
class RoundReport:
    """Everything that a round changed, and where it comes from."""

    number: int
    categories: list[Category]
    facts: dict[str, Any] = field(default_factory=dict)

    def by_track(self) -> dict[str, dict[str, int]]:
        """Failures closed, opened and unchanged by track; those of untouched categories as ``untouched``. A category of two tracks counts for both."""
        found: dict[str, dict[str, int]] = {}
        for category in self.categories:
            for track in category.tracks or ("untouched",):
                row = found.setdefault(track, {"closed": 0, "opened": 0, "unchanged": 0})
                row["closed"] += category.closed
                row["opened"] += category.opened
                row["unchanged"] += category.failing
        return found

    def harmed(self) -> list[str]:
        """Untouched categories that fell beyond chance."""
        return [category.name for category in self.categories if category.worse]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"round": self.number, **self.facts, "tracks": self.by_track(), "categories": [asdict(category) for category in self.categories]}


def rights(results: Mapping[str, Any], model: str) -> dict[str, dict[str, bool]]:
    """{category: {prompt's id: right}} of one model, from results.json of an evaluation; categories are ``t2i/count`` and ``ti2i/edit/recolor``."""
    found: dict[str, dict[str, bool]] = {}
    for suite, verdict in VERDICTS.items():
        rows = results.get(suite, {}).get("results", {}).get(model, [])
        for item, row in zip(results.get(suite, {}).get("items", []) if rows else [], rows, strict=True):
            if verdict in row:
                prefix = "edit/" if suite == "edit" else ""
                found.setdefault(f"{TASKS[suite]}/{prefix}{item['kind']}", {})[item["id"]] = bool(row[verdict])
    return found


def targets(decisions: Sequence[Decision], kinds: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """{category: the tracks that act on it}. ``kinds``: category of every signal."""
    found: dict[str, set[str]] = {}
    for decision in decisions:
        if decision.track != "none":
            found.setdefault(kinds[decision.signal], set()).add(decision.track)
    return {name: tuple(sorted(tracks)) for name, tracks in found.items()}


def compare(before: Mapping[str, Right], after: Mapping[str, Right], acted: Mapping[str, Sequence[str]], boot: Bootstrap) -> list[Category]:
    """Every category that both have. Raises QI2Error where their prompts differ."""
    made: list[tuple[Category, Change]] = []
    for name in before:
        if name not in after:
            continue
        if set(before[name]) != set(after[name]):
            raise QI2Error(f"{name} has other prompts before and after the round; evaluate both on one suite (the same evaluate.seed and prompts_per_kind)")
        change = paired(name, "before", before[name], after[name])
        if change is not None:
            made.append((_category(name, tuple(acted.get(name, ())), before[name], after[name], change, boot), change))
    untouched = [i for i, (category, _) in enumerate(made) if not category.tracks]
    corrected = dict(zip(untouched, holm([made[i][1] for i in untouched]), strict=True))
    found = []
    for i, (category, _) in enumerate(made):
        if i in corrected:
            category = Category(**{**vars(category), "p": corrected[i].corrected, "worse": corrected[i].worse})
        found.append(category)
    return found


def untouched(before: Mapping[str, Right], after: Mapping[str, Right], acted: Mapping[str, Sequence[str]], boot: Bootstrap) -> Figure | None:
    """The gain over all prompts of untouched categories together, which shows falls that are too small for each alone; None where there is none."""
    names = [name for name in before if name in after and not acted.get(name)]
    keys = [(name, i) for name in names for i in sorted(before[name])]
    return boot.difference(*([float(side[name][i]) for name, i in keys] for side in (after, before))) if keys else None


def _category(name: str, tracks: tuple[str, ...], before: Right, after: Right, change: Change, boot: Bootstrap) -> Category:
    ids = sorted(before)
    closed, opened = (sum(side[i] and not other[i] for i in ids) for side, other in ((after, before), (before, after)))
    failing = sum(not before[i] and not after[i] for i in ids)
    gain = boot.difference([float(after[i]) for i in ids], [float(before[i]) for i in ids])
    return Category(name, tracks, len(ids), change.before, change.now, closed, opened, failing, gain, change.p)


def same_suite(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Raises QI2Error where two evaluations are not of the same prompts and noise; a suite of conf/suites may have joined meanwhile."""
    one, other = (results.get("suite", {}).get("hashes", {}) for results in (before, after))
    if any(one.get(name) != other.get(name) for name in (*one, *other) if not name.startswith("suite/")):
        raise QI2Error("the evaluations before and after the round have other suites, so that nothing can be said; keep section evaluate as it is in a round")


def markdown(report: RoundReport) -> str:
    """The report as a page: what was found, what was done, what it changed."""
    facts = report.facts
    lines = [f"# Flywheel round {report.number}", "", str(facts.get("verdict", "")), ""]
    lines += [f"- {reason}" for reason in facts.get("reasons", [])]
    if report.categories:
        lines += ["", "| category | track | n | before | after | gain (95 %) | closed | opened | still failing |", "|---|---|---|---|---|---|---|---|---|"]
        for c in sorted(report.categories, key=lambda c: (not c.tracks, c.name)):
            gain = f"{c.gain.value:+.3f} ({c.gain.low:+.3f} to {c.gain.high:+.3f})"
            track = ", ".join(c.tracks) or ("untouched, **fell**" if c.worse else "untouched")
            lines.append(f"| {c.name} | {track} | {c.n} | {c.before:.3f} | {c.after:.3f} | {gain} | {c.closed} | {c.opened} | {c.failing} |")
    if rest := facts.get("untouched"):
        lines += ["", f"All untouched categories together: {rest['value']:+.3f} ({rest['low']:+.3f} to {rest['high']:+.3f}), {rest['n']} prompts."]
    provenance = {name: facts[name] for name in ("signals", "data", "git", "model", "suite") if facts.get(name)}
    return "\n".join([*lines, "", *(f"{name}: `{value}`  " for name, value in provenance.items())]) + "\n"


def verdict(report: RoundReport) -> str:
    """One sentence."""
    acted = [category for category in report.categories if category.tracks]
    if not acted:
        return "Nothing was acted on."
    gains = "; ".join(f"{c.name} {c.before:.0%} to {c.after:.0%} ({c.gain.low:+.0%} to {c.gain.high:+.0%})" for c in acted)
    harmed = report.harmed()
    return f"{gains}. " + (f"Beyond chance worse: {', '.join(harmed)}." if harmed else "No untouched category fell beyond chance.")
