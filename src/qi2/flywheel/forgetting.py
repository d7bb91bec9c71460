"""What was deleted leaves the records of a scale's rounds too: decisions, the reasons that quote its words, and what the enhancer learnt from it. Torch-free.

``home`` is a scale's folder ``flywheel/SCALE``: ``rounds/NNN``, ``prompts``, ``result.json``.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qi2.core.publish import write_file
from qi2.flywheel.attribution.cases import WORD
from qi2.flywheel.signals import Signal
from qi2.flywheel.tracks import prompts

ERASED = "[erased]"  # in the place of a word that only deleted prompts said
Redact = Callable[[str], str]


def homes(base: Path) -> list[Path]:
    """Every scale's folder under ``flywheel/`` (and that folder itself, where it holds rounds or a queue)."""
    base = Path(base)
    found = [base, *sorted(base.iterdir())] if base.is_dir() else []
    return [path for path in found if (path / "rounds").is_dir() or (path / "queue" / "queue.sqlite").exists()]


def forget(home: Path, signals: Sequence[Signal]) -> list[Path]:
    """Take what is not among ``signals``, all that are left, out of the records of a scale. Cut off, it is finished by the next call; returns what changed."""
    alive = {signal.id for signal in signals}
    records = {path: [json.loads(line) for line in path.read_text().splitlines()] for path in sorted((home / "rounds").glob("*/decisions.jsonl"))}
    gone = [row["prompt"] for rows in records.values() for row in rows if row["signal"] not in alive]
    changed = prompts.forget(home / "prompts", signals)
    if not gone:
        return changed
    redact = _redactor(gone, [signal.prompt for signal in signals])
    for path in (*sorted((home / "rounds").glob("*/*.json")), home / "result.json"):
        if path.name in ("state.json", "report.json", "result.json") and path.exists():
            changed += _reasons(path, redact)
    for path, rows in records.items():  # last: they say which words are to go
        kept = [_decision(row, redact) for row in rows if row["signal"] in alive]
        if kept != rows:
            write_file(path, "".join(f"{json.dumps(row)}\n" for row in kept).encode())
            changed.append(path)
    return changed


def _redactor(gone: Sequence[str], left: Sequence[str]) -> Redact:
    """What replaces the words that only prompts of ``gone`` say."""
    words = {word for text in gone for word in WORD.findall(text)} - {word for text in left for word in WORD.findall(text)}
    if not words:
        return str
    longest = sorted(words, key=lambda word: (-len(word), word))
    pattern = re.compile("(?<![A-Za-z])(?:" + "|".join(map(re.escape, longest)) + ")(?![A-Za-z])")
    return lambda text: pattern.sub(ERASED, text)


def _reasons(path: Path, redact: Redact) -> list[Path]:
    """Redact the reasons of a round's state or report, and of the page that shows them."""
    told = json.loads(path.read_text())
    before = list(told.get("reasons", []))
    told["reasons"] = [redact(reason) for reason in before]
    if told["reasons"] == before:
        return []
    page = path.with_suffix(".md")
    if page.exists():
        text = page.read_text()
        for old, new in zip(before, told["reasons"], strict=True):
            text = text.replace(old, new)
        write_file(page, text.encode())
    write_file(path, json.dumps(told, indent=1).encode())
    return [path]


def _decision(row: dict[str, Any], redact: Redact) -> dict[str, Any]:
    """A decision that stays: its group may be told from the rest by a deleted prompt's word."""
    group = dict(row["evidence"].get("group", {}))
    group |= {"name": redact(group["name"])} if "name" in group else {}
    group |= {"training_prompts": {redact(word): n for word, n in group["training_prompts"].items()}} if "training_prompts" in group else {}
    evidence = row["evidence"] | ({"group": group} if group else {})
    return row | {"reason": redact(row["reason"]), "evidence": evidence}
