"""One piece of feedback: what it must and may say, and how it becomes a signal. The same checks for every way in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import category

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.flywheel.signals import BAD, DIAGNOSIS, GOOD, TRAINING, Signal
from qi2.flywheel.store import SignalStore

SAYS = (BAD, GOOD)
CONSENTS = (DIAGNOSIS, TRAINING)  # the least first: it holds where nothing was said
MOST_REFERENCES = 10
LIMITS = {"prompt": 8000, "why": 4000, "subject": 200, "model": 200, "kind": 100}  # characters
QUESTION = "May this picture and prompt be used for training, besides looking into what went wrong?"


@dataclass(frozen=True)
class Feedback:
    """What somebody said. Raises QI2Error, in words for who sent it, where something is missing, too long or unknown.

    ``consent`` is ``diagnosis`` unless the person said ``training``; ``subject``: an opaque id by which they can have it all deleted.
    """

    prompt: str
    verdict: str
    why: str = ""
    consent: str = DIAGNOSIS
    subject: str = ""
    model: str = "unknown"
    kind: str = "user"

    def __post_init__(self) -> None:
        for name, most in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, str):
                raise QI2Error(f"{name} is a text, not {str(value)[:60]!r}")
            if len(value) > most:
                raise QI2Error(f"{name} has {len(value)} characters; at most {most}")
            if any(category(character) in ("Cc", "Cs") and character not in "\n\t" for character in value):
                raise QI2Error(f"{name} holds control characters; send plain text")
        for name, known in (("verdict", SAYS), ("consent", CONSENTS)):
            if getattr(self, name) not in known:
                raise QI2Error(f"{name} is {' or '.join(known)}, not {str(getattr(self, name))[:60]!r}")
        if not self.prompt.strip():
            raise QI2Error("say the prompt that the picture was made from")

    @staticmethod
    def of(row: Any, also: Sequence[str]) -> "Feedback":
        """From a JSON object; ``also`` are the keys, ``image`` first, that whoever calls reads. Unknown keys are refused: no consent is lost to a typo."""
        if not isinstance(row, dict):
            raise QI2Error("feedback is one JSON object")
        known = ("prompt", "verdict", "why", "consent", "subject", "model", "kind")
        if unknown := [str(name) for name in row if name not in (*known, *also)]:
            raise QI2Error(f"no field {unknown[0][:60]!r}; known are {', '.join((*also, *known))}")
        if missing := [name for name in (also[0], "prompt", "verdict") if name not in row]:
            raise QI2Error(f"{missing[0]} is missing")
        return Feedback(**{name: row[name] for name in known if name in row})


@dataclass(frozen=True)
class Receipt:
    """``id``: by which this very signal can be deleted; ``new``: False where it had been told before; ``deleted``: it was taken back before."""

    id: str
    new: bool
    deleted: bool = False


def take(store: SignalStore, said: Feedback, picture: Image.Image, references: Sequence[Image.Image], where: Mapping[str, Any]) -> Receipt:
    """Store feedback with its pictures; on the disk when this returns. ``where`` is its provenance."""
    if len(references) > MOST_REFERENCES:
        raise QI2Error(f"{len(references)} references; at most {MOST_REFERENCES}")
    verdict = {"said": said.verdict, "words": said.why}
    kept, sources = store.keep(picture), tuple(store.keep(image) for image in references)
    task = "ti2i" if references else "t2i"
    signal = Signal(
        "feedback", task, said.kind, said.prompt, said.model, verdict, "", kept, sources, 0, where, consent=said.consent, subject=said.subject
    )  # fmt: skip
    new = bool(store.add([signal]))
    return Receipt(signal.id, new, not new and store.deleted(signal.id))
