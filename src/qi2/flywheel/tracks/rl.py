"""The RL track: what the next round asks more often, and which rewards count more. Torch-free.

A decision carries what failed; the rule is proportional and bounded. A kind's weight grows with its share of the RL failures, at most by ``most`` in one
round and ``total`` over all; the rewards that see what failed get together at least ``share`` of all reward weight. Nothing is taken from kinds or
rewards that did not fail, except that shares are relative. Every change keeps its reason.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qi2.flywheel.attribution.cases import T2I, Case
from qi2.flywheel.attribution.decide import Decision
from qi2.flywheel.config import RLTrackConfig
from qi2.rlhf.config import RLHFConfig

CHECKER = "checker"
SEES: dict[str, tuple[str, ...]] = {  # which rewards see what failed, the surest first
    "object": (CHECKER, "alignment"),
    "shape": (CHECKER, "alignment"),
    "color": (CHECKER, "alignment"),
    "count": (CHECKER, "alignment"),
    "position": (CHECKER, "alignment"),
    "relation": (CHECKER, "alignment"),
    "word": (CHECKER, "alignment"),
    "background": (CHECKER, "alignment"),
    "done": (CHECKER, "instruction"),
    "kept": (CHECKER, "consistency"),
    "aesthetic": ("aesthetic",),
    "face": ("portrait",),
}
BY_TASK = {T2I: ("alignment",), "ti2i": ("instruction", "consistency")}  # where nothing says what was wrong, and there is no truth


@dataclass
class Adjustment:
    """Overrides of the configuration (dotted keys), and why, one sentence each; empty where nothing is to be changed."""

    overrides: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


def adjust(decisions: Sequence[Decision], cases: Mapping[str, Case], now: RLHFConfig, first: RLHFConfig, cfg: RLTrackConfig) -> Adjustment:
    """What the RL failures change. ``now``: the configuration of the last run; ``first``: before any round, which bounds the total."""
    failed = [cases[decision.signal] for decision in decisions if decision.track == "rl"]
    change = Adjustment()
    for task, key in ((T2I, "kinds"), ("ti2i", "edit_kinds")):
        counts = Counter(case.kind.removeprefix("edit/") for case in failed if case.task == task)
        weights = _kinds(counts, getattr(now.prompts, key), getattr(first.prompts, key), cfg, change, sum(counts.values()))
        if weights:
            change.overrides[f"rlhf.prompts.{key}"] = weights
    if any(case.task != T2I for case in failed) and now.prompts.edit_share == 0:
        share = sum(case.task != T2I for case in failed) / len(failed)
        change.overrides["rlhf.prompts.edit_share"] = round(min(0.5, share), 3)
        change.reasons.append(f"rlhf.prompts.edit_share 0 -> {min(0.5, share):.3g}: {share:.0%} of the RL failures are edits, which RLHF did not ask for.")
    _rewards(failed, now.rewards, cfg, change)
    return change


def _kinds(counts: Counter[str], now: Mapping[str, float], first: Mapping[str, float], cfg: RLTrackConfig, change: Adjustment, total: int) -> dict[str, float]:
    """All weights of a task's kinds, with those of failed kinds raised; empty where none moves."""
    weights, moved = dict(now), False
    usual = sorted(value for value in now.values() if value > 0)
    middle = usual[len(usual) // 2] if usual else 1.0
    for kind, count in sorted(counts.items()):
        before, start = now.get(kind, 0.0), first.get(kind, 0.0) or middle
        wanted = (before or middle / cfg.most) * min(cfg.most, 1 + cfg.strength * count / total)
        after = round(min(wanted, cfg.total * start), 4)
        if after > before:
            weights[kind], moved = after, True
            change.reasons.append(f"prompts of kind {kind}: weight {before:g} -> {after:g}, for {count} of {total} RL failures are of it.")
    return weights if moved else {}


def _rewards(failed: Sequence[Case], now: Mapping[str, float], cfg: RLTrackConfig, change: Adjustment) -> None:
    """Raise the surest reward that sees what failed, where those that see it have too little of all weight."""
    wanted: Counter[str] = Counter()
    why: dict[str, Counter[str]] = {}
    for case in failed:
        names = case.failed or ("",)
        for name in names:
            seen = [r for r in SEES.get(name, BY_TASK[case.task]) if r != CHECKER or case.truth is not None]
            reward = next((r for r in seen if now.get(r, 0) > 0), seen[0] if seen else "")
            if reward and _share(now, seen) < cfg.share:
                wanted[seen[0]] += 1
                why.setdefault(seen[0], Counter())[name or "what the prompt says"] += 1
    if not wanted:
        return
    weights = dict(now)
    for reward in sorted(wanted):
        others = sum(value for name, value in weights.items() if name != reward and value > 0)
        before, needed = weights.get(reward, 0.0), cfg.share / (1 - cfg.share) * others
        after = round(max(before, needed), 4)
        if after > before:
            weights[reward] = after
            what = ", ".join(name for name, _ in why[reward].most_common(3))
            change.reasons.append(f"reward {reward}: weight {before:g} -> {after:g}, so that what sees {what} has {cfg.share:.0%} of all weight.")
    if weights != dict(now):
        change.overrides["rlhf.rewards"] = weights


def _share(weights: Mapping[str, float], names: Sequence[str]) -> float:
    total = sum(value for value in weights.values() if value > 0)
    return sum(max(0.0, weights.get(name, 0.0)) for name in names) / total if total else 0.0
