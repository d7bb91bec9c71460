"""The four caption schemes (report 2.2) as a registry: what each asks for, how an answer is checked, and its exact caption of a known scene."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qi2.core.errors import QI2Error
from qi2.data.captions import truth
from qi2.data.captions.answers import Checked, check_prose, check_structured, check_text
from qi2.data.captions.config import CaptionConfig
from qi2.data.world.scene import Scene

# English names, which prompts use. Captions are checked in all of them; exact ones exist where ``words.known_languages`` says so.
LANGUAGES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "zh": "Chinese", "ja": "Japanese", "ko": "Korean", "it": "Italian",
    "pt": "Portuguese", "nl": "Dutch", "pl": "Polish", "ru": "Russian", "uk": "Ukrainian", "tr": "Turkish", "ar": "Arabic", "hi": "Hindi",
    "vi": "Vietnamese", "th": "Thai", "id": "Indonesian",
}  # fmt: skip
MOST_LETTERS = {"short": 400, "medium": 2000, "long": 10000}  # of a caption, by its length
MOST_KNOWLEDGE = 4000


@dataclass(frozen=True)
class Task:
    """One caption to be written: scheme, and what sets it apart from the scheme's other captions; empty where that does not apply."""

    scheme: str
    variant: str = ""
    language: str = ""
    length: str = ""

    @property
    def template(self) -> str:
        """Name of its prompt template."""
        return ".".join(part for part in (self.scheme, self.variant or self.length) if part)

    @property
    def name(self) -> str:
        """Scheme, variant, language and length, for random keys and messages."""
        return "/".join((self.scheme, self.variant, self.language, self.length))


@dataclass(frozen=True)
class Scheme:
    """``tasks`` of a config, ``check`` of a finished answer, and ``truth``: the exact caption of (scene, task, facts)."""

    tasks: Callable[[CaptionConfig], Iterable[Task]]
    check: Callable[[str, Task], Checked]
    truth: Callable[[Scene, Task, str], str]
    needs_facts: bool = False


def tasks_of(config: CaptionConfig) -> dict[str, list[Task]]:
    """The tasks of every chosen scheme; raises QI2Error for an unknown scheme, language or length, or where nothing is chosen."""
    _known("captions.schemes", config.schemes, SCHEMES)
    _known("captions.languages", config.languages, LANGUAGES)
    _known("captions.lengths", config.lengths, MOST_LETTERS)
    return {name: list(SCHEMES[name].tasks(config)) for name in config.schemes}


def _known(key: str, chosen: list[str], known: Iterable[str]) -> None:
    wrong = [name for name in chosen if name not in known]
    if wrong or not chosen or len(set(chosen)) < len(chosen):
        raise QI2Error(f"{key} is {', '.join(chosen) or 'empty'}; choose from {', '.join(known)}, each once")


def _general(config: CaptionConfig) -> Iterable[Task]:
    return (Task("general", language=language, length=length) for length in config.lengths for language in config.languages)


SCHEMES: dict[str, Scheme] = {
    "general": Scheme(
        _general,
        lambda answer, task: check_prose(answer, MOST_LETTERS[task.length]),
        lambda scene, task, facts: truth.general(scene, task.language, task.length),
    ),
    "text": Scheme(
        lambda config: (Task("text", variant) for variant in config.text_variants),
        lambda answer, task: check_text(answer),
        lambda scene, task, facts: truth.text(scene),
    ),
    "knowledge": Scheme(
        lambda config: (Task("knowledge", language=language) for language in config.languages),
        lambda answer, task: check_prose(answer, MOST_KNOWLEDGE),
        lambda scene, task, facts: truth.knowledge(scene, task.language, facts),
        needs_facts=True,
    ),
    "structured": Scheme(
        lambda config: (Task("structured"),),
        lambda answer, task: check_structured(answer),
        lambda scene, task, facts: truth.structured(scene),
    ),
}
