"""Checks of a model's answer: what may be kept as a caption, cleaned, and why the rest may not."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from qi2.core.errors import QI2Error
from qi2.data.captions.structured import Structured
from qi2.data.captions.transcript import read_transcript

OK, REFUSED, INVALID, UNREADABLE = "ok", "refused", "invalid", "unreadable"
STATUSES = (OK, REFUSED, INVALID, UNREADABLE)
REFUSALS = Path(__file__).with_name("refusals.txt")  # openings of answers that decline, one a line, lower case
_THOUGHT = re.compile(r"^.*?</think>", re.DOTALL)
_FENCED = re.compile(r"^```[\w-]*\n(?P<inner>.*?)\n?```$", re.DOTALL)
_BLOCK = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_LOOP = re.compile(r"(.{8,200}?)\1{5,}", re.DOTALL)  # the same eight letters or more, six times on end
_QUOTES = {'"': '"', "“": "”", "'": "'", "「": "」", "«": "»"}


@dataclass(frozen=True)
class Checked:
    """``caption`` is empty unless ``status`` is ok; then ``reason`` is."""

    status: str
    caption: str = ""
    reason: str = ""


def check_prose(answer: str, most: int) -> Checked:
    """Natural language of at most ``most`` letters that does not go round in circles."""
    text = _unquoted(clean(answer))
    return refusal_of(text) or too_long(text, most) or Checked(OK, text)


def check_text(answer: str) -> Checked:
    """A transcript (see ``transcript``)."""
    text = clean(answer)
    if bad := refusal_of(text) or too_long(text, 50000):
        return bad
    try:
        read_transcript(text)
    except QI2Error as error:
        return Checked(INVALID, reason=str(error))
    return Checked(OK, text)


def check_structured(answer: str) -> Checked:
    """A structured caption (see ``structured``), which is kept as canonical JSON; words around its one code block are dropped."""
    text = clean(answer)
    if bad := refusal_of(text):
        return bad
    blocks = _BLOCK.findall(text)
    text = blocks[0] if len(blocks) == 1 else text
    try:
        return Checked(OK, Structured.from_json(text).to_json())
    except QI2Error as error:
        return Checked(INVALID, reason=str(error))


def clean(answer: str) -> str:
    """The answer without a thinking model's thoughts, without a code fence around all of it, and without space at its ends."""
    text = _THOUGHT.sub("", answer, count=1).strip()
    fenced = _FENCED.match(text)
    return fenced["inner"].strip() if fenced else text


def refusal_of(text: str) -> Checked | None:
    """The verdict on an answer that is empty or declines."""
    if not text:
        return Checked(INVALID, reason="empty")
    plain = text.replace("’", "'").casefold()
    opening = next((opening for opening in _refusals() if plain.startswith(opening)), None)
    return Checked(REFUSED, reason=text[:200]) if opening else None


def too_long(text: str, most: int) -> Checked | None:
    """The verdict on an answer that is longer than ``most`` letters or repeats itself."""
    if len(text) > most:
        return Checked(INVALID, reason=f"too long: {len(text)} letters of at most {most}")
    loops = (found[1] for found in _LOOP.finditer(text) if any(letter.isalnum() for letter in found[1]))  # not the dots of a list of contents
    if loop := next(loops, None):
        return Checked(INVALID, reason=f"repeats {loop[:60]!r}")
    return None


def _unquoted(text: str) -> str:
    whole = len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]
    return text[1:-1].strip() if whole else text


@lru_cache
def _refusals() -> tuple[str, ...]:
    return tuple(line.casefold() for line in REFUSALS.read_text(encoding="utf-8").splitlines() if line)
