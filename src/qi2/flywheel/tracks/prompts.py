"""The prompt track: new wordings and examples for the enhancer, from failures that succeed when they are said otherwise. Torch-free.

An example pairs the failing prompt with the wording of it that succeeded best. What the failing one says in words that no training prompt has is aligned
with the words that only the succeeding one has, by how surely they come together over all failures: several failures that agree make a wording, by which
the enhancer's strategies then degrade other annotations into the same way of speaking.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.core.publish import write_file
from qi2.flywheel.attribution.cases import ARTICLES, Case
from qi2.flywheel.attribution.decide import Decision
from qi2.flywheel.config import PromptTrackConfig
from qi2.flywheel.signals import Signal

if TYPE_CHECKING:
    from qi2.flywheel.retrieval.leaks import HeldOut

TOKEN = re.compile(r"[A-Za-z][A-Za-z'-]*|\d+")


NEARLY = 0.75  # of the best wording's success: with a few pictures each, no more can be told apart
SURE = 0.01  # chance that a wrong pair of words becomes a wording


@dataclass
class Wordings:
    """Ways of saying things: fine phrase -> colloquial ones, and triplets of whole prompts; why, one sentence each."""

    phrases: dict[str, list[str]] = field(default_factory=dict)
    examples: list[dict[str, str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def learn(
    decisions: Sequence[Decision], cases: Mapping[str, Case], known: Mapping[str, int] | None, cfg: PromptTrackConfig, heldout: "Callable[[], HeldOut]"
) -> Wordings:
    """What prompt failures teach the enhancer. Of held-out prompts and of people who allowed diagnosis only nothing is learnt, no single word either.

    ``known``: what training prompts say; without them every word that only the failing prompt has counts.
    """
    pairs = [(cases[d.signal], best) for d in decisions if d.track == "prompt" and (best := _best(d, cases[d.signal].prompt))]
    own = [(case, fine) for case, fine in pairs if fine != case.prompt and not case.heldout]
    free = [(case, fine) for case, fine in own if not held_out(heldout(), case.task, case.prompt, fine)]
    found = Wordings()
    table = aligned([(case.prompt, fine) for case, fine in free], known, cfg.least)
    if table:
        found.phrases = table
        said = "; ".join(f"{fine}: {', '.join(said)}" for fine, said in table.items())
        found.reasons.append(f"{sum(map(len, table.values()))} wordings that fail as they stand, each agreed on by at least {cfg.least} failures: {said}.")
    found.examples = [_triplet(case, fine, table) for case, fine in free[: cfg.examples]]
    if found.examples:
        found.reasons.append(f"{len(found.examples)} prompts that fail as they stand, with the wording that succeeds, as examples for the enhancer.")
    if refused := len(own) - len(free):
        found.reasons.append(f"{refused} failing prompts teach the enhancer nothing: they, or the wording that succeeds, are held out.")
    return found


def held_out(heldout: "HeldOut", task: str, *texts: str) -> bool:
    """Whether one of the texts is a held-out prompt, has the words of one, or names what the split holds out."""
    return any(heldout.of_text(task, text, known=False) for text in texts)


def _best(decision: Decision, prompt: str) -> str:
    """Of the wordings that were drawn for the failure, those with (nearly) most success: the one nearest to it, so that nothing but the words is learnt.

    Empty where none succeeded.
    """
    tried: Mapping[str, Any] = decision.evidence.get("own", {}).get("wordings", {})
    good = {text: right / n for text, (right, n) in tried.items() if n and right}
    near = [text for text, rate in good.items() if rate >= NEARLY * max(good.values())]
    return max(near, key=lambda text: (SequenceMatcher(None, prompt.split(), text.split()).ratio(), good[text], text)) if near else ""


def aligned(pairs: Sequence[tuple[str, str]], known: Mapping[str, int] | None, least: int) -> dict[str, list[str]]:
    """{fine word: [what is said instead]} from (failing, succeeding) prompts.

    A new word stands for the word that the succeeding prompts have and the failing ones lack wherever it is said, and not elsewhere: the smallest p of
    Fisher's exact test over the pairs, which must be below ``SURE`` corrected for all words tried. It needs ``least`` pairs that agree, and half of those
    in which the new word is said.
    """
    from scipy.stats import fisher_exact

    split = [(_words(short), _words(fine)) for short, fine in pairs]
    lacking = [fine - short for short, fine in split]
    new = [{word for word in short - fine if known is None or not (known.get(word) or known.get(word.lower()))} for short, fine in split]
    meanings = sorted(set().union(*lacking)) if lacking else []
    table: dict[str, list[str]] = {}
    for word in sorted(set().union(*new)) if new else []:
        said = np.array([word in own for own in new])
        found = []
        for fine in meanings:
            meant = np.array([fine in own for own in lacking])
            both = int((said & meant).sum())
            cells = [[both, int((said & ~meant).sum())], [int((~said & meant).sum()), int((~said & ~meant).sum())]]
            if both >= max(least, said.sum() / 2):
                found.append((float(fisher_exact(cells, alternative="greater").pvalue) * len(meanings), fine))
        if found and min(found)[0] < SURE:
            table.setdefault(min(found)[1], []).append(word)
    return table


def _words(text: str) -> set[str]:
    return {word for word in TOKEN.findall(text) if not word.isupper() and word not in ARTICLES}


def _triplet(case: Case, fine: str, table: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A triplet as the enhancer reads them; the reasoning names the words that stand for others, as far as they were aligned."""
    own = _words(case.prompt)
    steps = [f"{word} is {meant}" for meant, words in table.items() for word in words if word in own]
    return {"signal": case.id, "task": case.task, "short": case.prompt, "reasoning": "; ".join(steps) or "say it as the training captions do", "fine": fine}


def write(found: Wordings, folder: Path, heldout: "Callable[[], HeldOut]", alive: Collection[str] | None = None) -> dict[str, Any]:
    """Add to ``wordings.json`` and ``examples.jsonl`` in ``folder``; returns the overrides that give them to the enhancer.

    Writing the same again adds nothing. ``alive``: signals that are not deleted and may be trained on; examples of all others leave the file, and those
    that are held out by now, which is a further reason of ``found``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    overrides: dict[str, Any] = {}
    if found.phrases:
        path = folder / "wordings.json"
        table: dict[str, list[str]] = json.loads(path.read_text()) if path.exists() else {}
        for fine, said in found.phrases.items():
            before = table.setdefault(fine, [])
            before += [word for word in said if word not in before]
        write_file(path, json.dumps(table, indent=1, sort_keys=True).encode())
        overrides["enhancer.triplets.wordings"] = [str(path)]
    path = folder / "examples.jsonl"
    before = path.read_text().splitlines() if path.exists() else []
    rows = [(line, json.loads(line)) for line in before]
    allowed = [(line, row) for line, row in rows if alive is None or row["signal"] in alive]
    kept = [line for line, row in allowed if not held_out(heldout(), row["task"], row["short"], row["fine"])]
    if refused := len(allowed) - len(kept):
        found.reasons.append(f"{refused} examples of earlier rounds are held out now and were taken from the enhancer.")
    lines = list(dict.fromkeys([*kept, *(json.dumps(example) for example in found.examples)]))
    if lines != before:
        write_file(path, "".join(f"{line}\n" for line in lines).encode())
    if found.examples:
        overrides["enhancer.triplets.examples"] = [str(path)]
    return overrides


def forget(folder: Path, signals: Iterable[Signal]) -> list[Path]:
    """Take out of the files of `write` the examples of signals that are gone or may not be trained on, and wordings that no signal says any more.

    ``signals``: all that are left. Returns the files that changed.
    """
    left, changed = list(signals), list[Path]()
    free, said = {signal.id for signal in left if signal.trainable}, {word for signal in left for word in _words(signal.prompt)}
    path = folder / "wordings.json"
    table: dict[str, list[str]] = json.loads(path.read_text()) if path.exists() else {}
    kept = {fine: own for fine, words in table.items() if (own := [word for word in words if word in said])}
    if kept != table:
        write_file(path, json.dumps(kept, indent=1, sort_keys=True).encode())
        changed.append(path)
    path = folder / "examples.jsonl"
    before = path.read_text().splitlines() if path.exists() else []
    lines = [line for line in before if json.loads(line)["signal"] in free]
    if lines != before:
        write_file(path, "".join(f"{line}\n" for line in lines).encode())
        changed.append(path)
    return changed
