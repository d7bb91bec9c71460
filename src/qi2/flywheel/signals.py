"""A signal: one failure of one model on one prompt, from where it comes, and what may be done with it (report section 2.4, bad cases)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from qi2.core.errors import QI2Error
from qi2.core.pictures import SHA256

SOURCES = ("evaluation", "mining", "votes", "feedback", "training")
TASKS = ("t2i", "ti2i")
OWN, TRAINING, DIAGNOSIS = CONSENTS = ("own", "training", "diagnosis")
GOOD, BAD = "good", "bad"  # what a person said, in verdict["said"]
MAX_TEXT = 20_000  # characters of a prompt; the report's prompts have up to 1000 tokens
MAX_BODY = 200_000  # characters of a whole signal as JSON


@dataclass(frozen=True, eq=True)
class Signal:
    """One failure. What is wrong about it raises QI2Error when it is made.

    ``consent``: ``own`` (the project's own prompts and pictures), ``training`` (a person lets us train on it) or ``diagnosis`` (a person lets us look, no
    more). ``heldout``: of a suite that measures; may be diagnosed, may never enter training. ``subject``: opaque id of the person, "" for nobody.
    """

    source: str
    task: str
    kind: str  # category of the prompt: one, count, edit/recolor, or the user's own
    prompt: str
    model: str  # which model failed: stage name or registered version; its weights' sha256 in provenance
    verdict: Mapping[str, Any] = field(
        default_factory=dict
    )  # what was wrong: {"attributes": {"count": false}} | {"reward": ..} | {"votes": ..} | {"words": ..}
    truth: str = ""  # JSON of data.world's Scene or Edit where known
    picture: str = ""  # sha256 of the failed picture in the store
    references: tuple[str, ...] = ()  # sha256 of an edit's references in the store
    seed: int = 0  # of the noise
    provenance: Mapping[str, Any] = field(default_factory=dict)  # file, run, row, git revision, when, weights
    consent: str = OWN
    heldout: bool = False
    subject: str = ""

    def __post_init__(self) -> None:
        _check(self)

    def __hash__(self) -> int:
        return hash(self.id)

    @cached_property
    def id(self) -> str:
        """SHA-256 of what identifies the failure: the same one told twice is one, the same prompt failing with other weights is another."""
        facts: list[Any] = [self.source, self.task, self.prompt, self.model, self.picture, self.seed, self.subject]
        facts += [weights] if (weights := self.provenance.get("weights")) else []
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def trainable(self) -> bool:
        """Whether anything of it may enter training."""
        return not self.heldout and self.consent in (OWN, TRAINING)

    @property
    def praise(self) -> bool:
        """Whether a person called the picture good: no failure."""
        return self.verdict.get("said") == GOOD

    @property
    def pictures(self) -> tuple[str, ...]:
        """Every picture that it names."""
        return tuple(name for name in (self.picture, *self.references) if name)

    def to_json(self) -> str:
        """One line; keys in order, so that equal signals give equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Signal":
        """Inverse of ``to_json``. Raises QI2Error that says which field is missing, unknown or wrong."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise QI2Error(f"a signal is one JSON object, this is none ({error})") from error
        if not isinstance(values, dict):
            raise QI2Error("a signal is one JSON object, with the fields of flywheel.signals.Signal")
        known = {item.name for item in fields(Signal)}
        if unknown := sorted(values.keys() - known):
            raise QI2Error(f"a signal has no field {unknown[0][:80]!r}; known are {', '.join(sorted(known))}")
        if missing := [name for name in ("source", "task", "kind", "prompt", "model") if name not in values]:
            raise QI2Error(f"the signal lacks {missing[0]!r}")
        if isinstance(values.get("references"), list):
            values["references"] = tuple(values["references"])
        return Signal(**values)


def _check(signal: Signal) -> None:
    """Every field's type and range, in words."""
    for name, known in (("source", SOURCES), ("task", TASKS), ("consent", CONSENTS)):
        if getattr(signal, name) not in known:
            raise QI2Error(f"a signal's {name} is one of {', '.join(known)}, not {str(getattr(signal, name))[:80]!r}")
    for name in ("kind", "prompt", "model", "truth", "picture", "subject"):
        _check_text(name, getattr(signal, name), needed=name in ("kind", "prompt", "model"))
    if not isinstance(signal.references, tuple) or not all(isinstance(name, str) for name in signal.references):
        raise QI2Error("a signal's references are the pictures' sha256")
    for name in signal.pictures:
        if not SHA256.fullmatch(name):
            raise QI2Error(f"a signal names pictures by the sha256 that SignalStore.keep gave, not by {name[:80]!r}")
    if type(signal.seed) is not int or not 0 <= signal.seed < 2**63 or type(signal.heldout) is not bool:
        raise QI2Error(f"a signal's seed is a whole number from 0 to 2**63 - 1 and heldout true or false, not {signal.seed!r} and {signal.heldout!r}")
    if not isinstance(signal.verdict, Mapping) or not isinstance(signal.provenance, Mapping):
        raise QI2Error("a signal's verdict and provenance are objects")
    if signal.subject and signal.consent == OWN:
        raise QI2Error("what a person gave has that person's consent, training or diagnosis, not own")
    _check_size(signal)


def _check_text(name: str, value: Any, needed: bool) -> None:
    if not isinstance(value, str) or (needed and not value.strip()):
        raise QI2Error(f"a signal's {name} is {'a text that is not empty' if needed else 'a text'}, not {str(value)[:80]!r}")
    if len(value) > MAX_TEXT:
        raise QI2Error(f"a signal's {name} has {len(value)} characters; at most {MAX_TEXT}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise QI2Error(f"a signal's {name} is no text: half of a surrogate pair at character {error.start}") from error


def _check_size(signal: Signal) -> None:
    try:
        text = signal.to_json()
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise QI2Error(f"a signal's verdict and provenance hold what JSON can say, finite numbers and whole texts only ({error})") from error
    if len(text) > MAX_BODY:
        raise QI2Error(f"a signal has {len(text)} characters; at most {MAX_BODY}")
