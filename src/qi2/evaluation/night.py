"""One night's results beside earlier ones: which comparisons are made, what failed anew, and how much fits the time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qi2.core.rng import key
from qi2.evaluation.changes import Change, holm, paired, unpaired

VERDICTS = {"t2i": "all", "edit": "done"}  # what counts as right in each suite
SAFETY = 0.8  # of the budget is planned for: the machine may be busier than it was


@dataclass
class NightlyConfig:
    """``rotation`` subsets of held-out prompts take turns; each comes with the same prompts and noise again after so many nights. Numbers are ours."""

    rotation: int = 7
    budget_s: float = 150.0  # of drawing and judging all models; more prompts where the time allows, fewer where it does not
    prompts_per_kind: int = 20  # of the first night
    edits_per_prompt: float = 0.5  # edits of every kind for each prompt of every kind
    least: int = 5
    most: int = 200
    history: int = 28  # nights that a share is compared with
    pictures: int = 60  # of each suite that are kept, to show what fails anew


@dataclass(frozen=True)
class Sitting:
    """What one model did in one night: its version, and right or wrong by prompt of every suite."""

    version: str
    verdicts: dict[str, dict[str, bool]]  # suite -> prompt's id -> right
    kinds: dict[str, str]  # prompt's id, with its suite before it -> kind


def sitting(results: Mapping[str, Any], model: str, version: str) -> Sitting:
    """Read results.json of an evaluation; suites without this model's verdicts are left out."""
    verdicts: dict[str, dict[str, bool]] = {}
    kinds: dict[str, str] = {}
    for suite, verdict in VERDICTS.items():
        rows = results.get(suite, {}).get("results", {}).get(model, [])
        pairs = [(item, row) for item, row in zip(results[suite]["items"], rows, strict=True) if verdict in row] if rows else []
        if pairs:
            verdicts[suite] = {item["id"]: bool(row[verdict]) for item, row in pairs}
            kinds |= {f"{suite}/{item['id']}": item["kind"] for item, _ in pairs}
    return Sitting(version, verdicts, kinds)


def subset_seed(seed: int, subset: int) -> int:
    """The suite seed of one of the rotating subsets, none of which is the published suite."""
    return key(seed, "nightly/subset", subset) & 0x7FFFFFFF


def shares(now: Sitting) -> dict[str, tuple[int, int]]:
    """(right, prompts) of every suite (``t2i``) and category (``t2i/count``)."""
    found: dict[str, tuple[int, int]] = {}
    for suite, verdicts in now.verdicts.items():
        for name, right in verdicts.items():
            for label in (suite, f"{suite}/{now.kinds[f'{suite}/{name}']}"):
                so_far, n = found.get(label, (0, 0))
                found[label] = (so_far + right, n + 1)
    return found


def compare(now: Mapping[str, Sitting], before: Mapping[str, Sitting], history: Mapping[str, Mapping[str, tuple[int, int]]], nights: int) -> list[Change]:
    """All comparisons of a night, corrected together: each model with itself on the same prompts and with its earlier nights, challenger with champion.

    before: the last sitting on the same subset; history: summed (right, prompts) of the earlier nights of the same version, over ``nights``.
    """
    found: list[Change | None] = []
    for alias, sat in now.items():
        if alias in before:
            against = "same prompts before" + ("" if before[alias].version == sat.version else f", version {before[alias].version}")
            found += _by_category(alias, against, before[alias], sat)
        own = shares(sat)
        found += [unpaired(f"{alias} {label}", f"{nights} nights", *history[alias][label], *own[label]) for label in own if label in history.get(alias, {})]
    if {"champion", "challenger"} <= set(now):
        found += _by_category("challenger", "champion tonight", now["champion"], now["challenger"])
    return holm([change for change in found if change is not None])


def _by_category(alias: str, against: str, before: Sitting, now: Sitting) -> Iterator[Change | None]:
    for suite, verdicts in now.verdicts.items():
        former = before.verdicts.get(suite, {})
        yield paired(f"{alias} {suite}", against, former, verdicts)
        for kind in dict.fromkeys(now.kinds[f"{suite}/{name}"] for name in verdicts):
            own = {name: right for name, right in verdicts.items() if now.kinds[f"{suite}/{name}"] == kind}
            yield paired(f"{alias} {suite}/{kind}", against, former, own)


def new_failures(before: Sitting, now: Sitting) -> list[tuple[str, str]]:
    """(suite, prompt's id) of what was right on the same prompts before and is wrong now."""
    return [
        (suite, name) for suite, verdicts in now.verdicts.items() for name, right in verdicts.items() if before.verdicts.get(suite, {}).get(name) and not right
    ]


def affordable(config: NightlyConfig, spent: Sequence[tuple[int, float]], models: int) -> int:
    """Prompts per kind that fit the budget, from (prompts per kind and model, seconds) of earlier nights; the slowest counts."""
    rates = [seconds / count for count, seconds in spent if count > 0]
    if not rates:
        return config.prompts_per_kind
    return max(config.least, min(config.most, int(SAFETY * config.budget_s / (max(rates) * max(models, 1)))))


def steady(last: int | None, affordable: int) -> int:
    """Prompts per kind of a subset that had ``last`` the time before: as many again where they fit, so that pictures of an unchanged model are there already.

    More only where the budget has room for twice as many.
    """
    return last if last is not None and last <= affordable < 2 * last else affordable


def cost(wall_s: float, results: Mapping[str, Any]) -> float:
    """Seconds of a model's sitting as if nothing had been drawn before: what drawing all of it took, now or then, where that is longer."""
    return max(wall_s, *(facts["seconds"] + facts.get("edit_seconds", 0.0) for facts in results["models"].values()))


def verdict(changes: Sequence[Change], compared: bool) -> str:
    """What changed, in one sentence."""
    if not compared:
        return "First evaluation of these prompts and of this version: nothing to compare with."
    beyond = sorted((change for change in changes if change.beyond_chance), key=lambda change: change.corrected)
    if not beyond:
        moved = sum(change.now != change.before for change in changes)
        return f"Nothing changed beyond chance: {len(changes)} comparisons, {moved} of them moved."
    said = ", ".join(f"{c.name} {c.before:.2f} -> {c.now:.2f} ({c.against}, p {c.corrected:.2g})" for c in beyond[:4])
    return f"{sum(c.worse for c in beyond)} worse and {sum(not c.worse for c in beyond)} better of {len(changes)} comparisons: {said}."
