"""From evidence to a track: rules on groups of failures, each act by an exact test with a stated error.

Failures of one cause are pooled, since one prompt's pictures hardly decide anything: by task and kind, then by the word whose prompts fare differently.
A group is acted on only where its own prompts succeed less often than ``mostly`` beyond chance, all groups being one family of tests (``error``), and
where it is more than a share ``tolerate`` of what was asked of its kind: all its failing prompts count there, those too that were not tested, since a
round tests so many at most. Then, in this order:

1. prompt: other wordings, or the enhancer's, succeed more often than its own, beyond chance and by ``gain``, and are not rare themselves.
2. pretraining: it never succeeds (below ``never`` beyond chance, by no sampler above it), and training data like it are scarce: what its prompts have in
   common stands in hardly any training prompt, or its nearest training samples are further than ordinary prompts' are.
3. rl: it can, but rarely does: success appears among samples, or rises under guidance, with more steps, or where the model
   is asked that RLHF began from.
4. none: no test decides, and the reason says which were run.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qi2.flywheel.attribution import statistics as st
from qi2.flywheel.attribution.cases import Evidence, Tally, said
from qi2.flywheel.attribution.probes import BEFORE, ENHANCED, HIGH, LOW, OWN, REWORDED, STEPS
from qi2.flywheel.config import DecideConfig

TRACKS = ("rl", "pretraining", "prompt", "none")
NEW = "<new word>"  # stands for any word that no training prompt has
COMMON = 0.9  # share of a group's prompts that say what the group has in common
SPLITS = 2  # so many words at most tell a group from the rest of its kind
Known = Mapping[str, int]
"""How many training prompts have each feature (`qi2.flywheel.attribution.cases.counted`)."""
Tested = Mapping[tuple[str, str], int]
"""How many prompts of every (task, kind) were tried where the failures come from."""


Failing = tuple[str, str, set[str]]
"""Task, kind and features of a failing prompt, tested or not."""


@dataclass(frozen=True)
class Decision:
    """The track of one signal, what it rests on, and why in one sentence."""

    signal: str
    track: str
    evidence: Mapping[str, Any]
    reason: str


@dataclass
class Group:
    """Failures that are judged together: of one task and kind, whose prompts have ``words`` and lack ``without``."""

    task: str
    kind: str
    members: list[Evidence]
    words: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Such as ``t2i/count with four``."""
        parts = [f"{self.task}/{self.kind}"]
        parts += [f"with {', '.join(self.words)}"] if self.words else []
        return " ".join([*parts, *([f"without {', '.join(self.without)}"] if self.without else [])])

    def tallies(self, *probes: str) -> list[Tally]:
        """Per case, the pictures of these probes together."""
        found = [[e.tallies[p] for p in probes if p in e.tallies] for e in self.members]
        return [Tally(sum(t.right for t in own), sum(t.tried for t in own)) for own in found]

    def count(self, failing: Sequence[Failing]) -> int:
        """How many of the failing prompts belong to it."""
        own = [said for task, kind, said in failing if (task, kind) == (self.task, self.kind)]
        return sum(said.issuperset(self.words) and said.isdisjoint(self.without) for said in own)


def decide(
    evidence: Sequence[Evidence], cfg: DecideConfig, known: Known | None = None, tested: Tested | None = None, failing: Sequence[Any] | None = None
) -> list[Decision]:
    """One decision per case, in their order. ``known``: what training prompts say, where it is known.

    ``failing``: all failing prompts with task and kind (signals, cases), where evidence is of some of them only.
    """
    groups = grouped(evidence, cfg, known)
    failing = [e.case for e in evidence] if failing is None else failing
    failed = [(one.task, one.kind, features(one.prompt, known)) for one in failing]
    weak = st.holm([st.below(group.tallies(OWN), cfg.mostly) if len(group.members) >= cfg.least else 1.0 for group in groups])
    decided: dict[str, Decision] = {}
    for group, p in zip(groups, weak, strict=True):
        group.facts = {"failures": group.count(failed), **facts(group, p)}
        if known is not None:
            group.facts["training_prompts"] = {feature: known.get(feature, 0) for feature in common(group)}
        track, reason = _route(group, p, cfg, tested or {})
        decided |= {e.case.id: Decision(e.case.id, track, {"group": group.facts, "own": e.to_json()}, reason) for e in group.members}
    return [decided[e.case.id] for e in evidence]


def grouped(evidence: Sequence[Evidence], cfg: DecideConfig, known: Known | None = None) -> list[Group]:
    """Groups by task and kind, parted where a word's prompts succeed with another frequency than the rest."""
    kinds: dict[tuple[str, str], list[Evidence]] = {}
    for item in evidence:
        kinds.setdefault((item.case.task, item.case.kind), []).append(item)
    found: list[Group] = []
    for (task, kind), members in sorted(kinds.items()):
        found += _parted(Group(task, kind, members), cfg, known, SPLITS)
    return found


def _parted(group: Group, cfg: DecideConfig, known: Known | None, left: int) -> list[Group]:
    """The group, or its two parts by the word that tells them apart best, beyond chance over all words that were tried."""
    said = [features(e.case.prompt, known) for e in group.members]
    rates = [e.rate(OWN) or 0.0 for e in group.members]
    options = {}
    for word in sorted(set().union(*said) if said else ()):
        parts = [[rate for rate, own in zip(rates, said, strict=True) if (word in own) is side] for side in (True, False)]
        if min(map(len, parts)) >= cfg.least:
            options[word] = st.differ(*parts)
    if not left or not options:
        return [group]
    corrected = dict(zip(options, st.holm(list(options.values())), strict=True))
    best = min(corrected, key=lambda word: (corrected[word], word != NEW, word))
    if corrected[best] >= cfg.error:
        return [group]
    inside, outside = ([e for e, own in zip(group.members, said, strict=True) if (best in own) is side] for side in (True, False))
    return [
        *_parted(Group(group.task, group.kind, inside, (*group.words, best), group.without), cfg, known, left - 1),
        *_parted(Group(group.task, group.kind, outside, group.words, (*group.without, best)), cfg, known, left - 1),
    ]


def features(prompt: str, known: Known | None) -> set[str]:
    """What a prompt says, and whether any of it is new."""
    own = set(said(prompt))
    return own | ({NEW} if known is not None and any(new(feature, known) for feature in own) else set())


def new(feature: str, known: Known) -> bool:
    """Whether no training prompt has a word; letters of rendered text are no words."""
    return not feature.startswith("letter ") and not known.get(feature, 0) and not known.get(feature.lower(), 0)


def common(group: Group) -> list[str]:
    """What (nearly) all prompts of a group say."""
    counts = Counter(feature for e in group.members for feature in e.case.features)
    return sorted(feature for feature, n in counts.items() if n >= COMMON * len(group.members))


def facts(group: Group, p: float) -> dict[str, Any]:
    """What the group's tests gave: pooled pictures with intervals, and p-values."""
    found: dict[str, Any] = {"name": group.name, "prompts": len(group.members), "p_weak": p}
    for probe in (OWN, LOW, HIGH, STEPS, BEFORE, REWORDED, ENHANCED):
        tallies = group.tallies(probe)
        if any(tally.tried for tally in tallies):
            low, high = st.interval(tallies)
            right, tried = sum(t.right for t in tallies), sum(t.tried for t in tallies)
            found[probe] = {"right": right, "tried": tried, "rate": right / tried, "low": low, "high": high}
            if probe != OWN:
                found[probe]["p_rises"] = st.rises(group.tallies(OWN), tallies)
    nearest = [sum(e.neighbours) / len(e.neighbours) for e in group.members if e.neighbours]
    if nearest:
        usual = group.members[0].usual
        means = [sum(side) / max(len(side), 1) for side in (nearest, usual)]
        found["neighbours"] = {"similarity": means[0], "usual": means[1], "p_scarce": st.lower(nearest, usual)}
    return found


def _route(group: Group, p: float, cfg: DecideConfig, tested: Tested) -> tuple[str, str]:
    """The group's track and why."""
    own, failures = group.facts[OWN], group.facts["failures"]
    seen = f"{own['right']} of {own['tried']} new pictures of its {len(group.members)} prompts are right"
    if len(group.members) < cfg.least <= failures:
        some = f"{len(group.members)} of its {failures} failures were tested, fewer than {cfg.least}"
        return "none", f"{group.name}: too few were tested to act on it ({some}; raise flywheel.probes.most); {seen}."
    if len(group.members) < cfg.least:
        return "none", f"{group.name}: too few failures of one kind to act on ({len(group.members)} of {cfg.least}); {seen}."
    if p >= cfg.error:
        return "none", f"{group.name}: bad luck of one noise, not a weakness: {seen}, not fewer than {cfg.mostly:.0%} beyond chance (p {p:.2g})."
    asked = tested.get((group.task, group.kind), 0)
    if asked and _rare(failures, asked, cfg):
        return "none", f"{group.name}: {failures} failures among {asked} prompts of its kind are no more than {cfg.tolerate:.0%} beyond chance; {seen}."
    for probe in (ENHANCED, REWORDED):
        if _helps(group, probe, cfg):
            other = group.facts[probe]
            how = "rewritten by the enhancer" if probe == ENHANCED else "said in other words"
            return "prompt", f"{group.name}: {how} it succeeds in {other['rate']:.0%}, as it stands in {own['rate']:.0%} (p {other['p_rises']:.2g})."
    if _never(group, cfg):
        return _missing(group, cfg, seen)
    return "rl", f"{group.name}: the model can but rarely does: {seen}{_risen(group, cfg)}."


def _rare(failures: int, asked: int, cfg: DecideConfig) -> bool:
    return st.above([Tally(1, 1)] * min(failures, asked) + [Tally(0, 1)] * max(0, asked - failures), cfg.tolerate) >= cfg.error


def _helps(group: Group, probe: str, cfg: DecideConfig) -> bool:
    other, own = group.facts.get(probe), group.facts[OWN]
    if other is None or other["p_rises"] >= cfg.error or other["rate"] - own["rate"] < cfg.gain:
        return False
    return st.below(group.tallies(probe), cfg.mostly) >= cfg.error


def _never(group: Group, cfg: DecideConfig) -> bool:
    """Below ``never`` beyond chance with its own sampler, and by no other above it."""
    others = [probe for probe in (LOW, HIGH, STEPS, BEFORE, REWORDED) if probe in group.facts]
    return st.below(group.tallies(OWN), cfg.never) < cfg.error and all(st.above(group.tallies(probe), cfg.never) >= cfg.error / len(others) for probe in others)


def _missing(group: Group, cfg: DecideConfig, seen: str) -> tuple[str, str]:
    """Never right: whether training data are scarce, by what tells the group apart and by its nearest samples."""
    counts = group.facts.get("training_prompts", {})
    if lacking := [word for word, n in counts.items() if n <= cfg.few]:
        said = ", ".join(f"{word!r} in {counts[word]} training prompts" for word in lacking)
        return "pretraining", f"{group.name}: the model never succeeds and training data are missing: {seen}; {said}."
    near = group.facts.get("neighbours")
    if near is None:
        return "pretraining", f"{group.name}: the model never succeeds: {seen}, by no sampler or wording more; its training data were not searched."
    if near["p_scarce"] < cfg.error:
        much = f"similarity {near['similarity']:.3f} to the nearest, {near['usual']:.3f} among ordinary ones, p {near['p_scarce']:.2g}"
        return "pretraining", f"{group.name}: the model never succeeds and training data like it are scarce: {seen}; {much}."
    return "none", f"{group.name}: no test decides: the model never succeeds ({seen}), although training data are as near as usual (p {near['p_scarce']:.2g})."


def _risen(group: Group, cfg: DecideConfig) -> str:
    names = {HIGH: "under more guidance", LOW: "under less guidance", STEPS: "with more steps", BEFORE: "by the model before alignment"}
    risen = [probe for probe in names if probe in group.facts and group.facts[probe]["p_rises"] < cfg.error / len(names)]
    return "".join(f", {group.facts[probe]['rate']:.0%} {names[probe]}" for probe in risen)
