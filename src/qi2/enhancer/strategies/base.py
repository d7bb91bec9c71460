"""What a degradation is: a rule that takes information or precision out of a prompt, and how to reason back to it (report section 3.3)."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|「[^」]*」|『[^』]*』|《[^》]*》|(?<!\w)'[^'\n]*'(?!\w)|\b[A-Z]{2,}\b")
"""Text that a picture has to show: what stands in quotes, and words of capital letters."""


@dataclass(frozen=True)
class Degraded:
    """A prompt with less in it. ``thought``: the reasoning back; ``dropped``: what it leaves open now, of background, position, places (but how two things
    stand to each other), texture, lighting, style."""

    prompt: str
    thought: str
    dropped: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Strategy:
    """One degradation. ``apply`` gives None where the prompt has nothing of the kind, and never touches quoted text."""

    name: str
    about: str  # one sentence, also for a language model that applies it
    apply: Callable[[str, np.random.Generator], Degraded | None]
    categories: frozenset[str] = frozenset({"general", "portrait", "text", "complex_text"})


def quoted(prompt: str) -> list[str]:
    """The texts that a picture has to show, as they stand in the prompt, quotes included."""
    return QUOTED.findall(prompt)


def outside_quotes(prompt: str, change: Callable[[str], str]) -> str:
    """``change`` what stands between quoted texts."""
    parts, end = [], 0
    for found in QUOTED.finditer(prompt):
        parts += [change(prompt[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, change(prompt[end:])])


def tidy(text: str) -> str:
    """Without doubled spaces and commas, and without those that now stand at an end."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([,.;])", r"\1", text)
    text = re.sub(r"([,;])(?:\s*[,;])+", r"\1", text)
    text = re.sub(r"[,;]\s*\.", ".", text)
    return text.strip(" ,;")


def cut(prompt: str, patterns: list[re.Pattern[str]]) -> tuple[str, list[str]]:
    """The prompt without what the patterns match outside quotes, and the values (group ``v``, else the whole match) that were taken out,
    in their order.

    Nothing is cut that would leave no words.
    """
    values: list[str] = []
    text = prompt
    for pattern in patterns:
        while (found := _first(pattern, text)) is not None:
            values.append(tidy(found.groupdict().get("v") or found[0]))
            text = f"{text[: found.start()]} {text[found.end() :]}"
    text = tidy(text)
    return (text, sorted(values, key=prompt.find)) if re.search(r"\w", text) else (prompt, [])


def _first(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The first match that touches no quoted text."""
    held = [(found.start(), found.end()) for found in QUOTED.finditer(text)]
    return next((m for m in pattern.finditer(text) if not any(m.start() < end and start < m.end() for start, end in held)), None)
