"""A candidate: one sample that may enter the training data, and all that a reviewer needs to know about it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from qi2.core.errors import QI2Error
from qi2.core.pictures import SHA256

MAX_TEXT = 20_000  # characters
TASKS = ("t2i", "ti2i")


@dataclass(frozen=True)
class Candidate:
    """``origin``: ``signal`` (id) or ``signals`` that it was made for, ``how`` it was made, ``neighbours``: {"id", "similarity", "caption", "picture"?} each.

    Raises QI2Error where a field is not what it should be.
    """

    id: str
    task: str
    prompt: str
    target: str  # sha256 of the picture in the queue
    references: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    truth: str = ""  # JSON of data.world's Scene or Edit where known

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        if not isinstance(self.id, str) or not 0 < len(self.id) <= 200 or self.task not in TASKS or not isinstance(self.truth, str):
            raise QI2Error(
                f"a candidate has an id of 1 to 200 characters, a task of {', '.join(TASKS)} and a truth that is text, not {self.id!r}, {self.task!r}"
            )
        if not isinstance(self.references, tuple) or not all(isinstance(name, str) and SHA256.fullmatch(name) for name in (self.target, *self.references)):
            raise QI2Error(f"candidate {self.id}: pictures are named by the sha256 that ReviewQueue.keep gave")
        try:
            json.dumps(self.origin, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise QI2Error(f"candidate {self.id}: the origin holds what JSON can say ({error})") from error

    @property
    def signals(self) -> tuple[str, ...]:
        """The ids of the signals that it was made for: when one is deleted, so is this."""
        many = self.origin.get("signals", ())
        return tuple(str(name) for name in dict.fromkeys([*([self.origin["signal"]] if self.origin.get("signal") else []), *many]))

    @property
    def pictures(self) -> tuple[str, ...]:
        """Every picture that it names, its neighbours' too."""
        shown = [str(one["picture"]) for one in self.neighbours if one.get("picture")]
        return tuple(dict.fromkeys((self.target, *self.references, *shown)))

    @property
    def neighbours(self) -> list[Mapping[str, Any]]:
        """What the retrieval found near it."""
        found = self.origin.get("neighbours", ())
        return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list | tuple) else []

    def to_json(self) -> str:
        """Inverse of ``from_json``."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> "Candidate":
        """A stored candidate."""
        values = json.loads(text)
        return Candidate(**{**values, "references": tuple(values["references"])})

    def reviewed(self, prompt: str, facts: Mapping[str, Any]) -> "Candidate":
        """As it was accepted: with the edited prompt, and the decision in its origin."""
        return replace(self, prompt=prompt or self.prompt, origin={**self.origin, "review": {**facts, "original": self.prompt}})


def check_prompt(text: Any) -> None:
    """Raises QI2Error for a prompt that is none."""
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT:
        raise QI2Error(f"a prompt is a text of 1 to {MAX_TEXT} characters, not {str(text)[:60]!r}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise QI2Error("the prompt holds half of a surrogate pair; send plain text")
