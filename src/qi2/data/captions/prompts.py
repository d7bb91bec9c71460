"""Prompt templates: plain text files in ``templates/``, named after what they ask for; a user's folder replaces those of the same name.

Slots are ``{language}`` (its English name) and ``{facts}``.
"""

from collections.abc import Iterable
from pathlib import Path

from qi2.core.errors import QI2Error
from qi2.data.captions.schemes import LANGUAGES, SCHEMES, Task

FOLDER = Path(__file__).with_name("templates")


def load_templates(tasks: Iterable[Task], folder: str = "") -> dict[str, str]:
    """Template name to text for the tasks; raises QI2Error for a template that is missing or lacks a slot that its task fills."""
    own = Path(folder) if folder else FOLDER
    if not own.is_dir():
        raise QI2Error(f"{own} is no folder of prompt templates; give one with files such as general.short.txt")
    found = {}
    for task in tasks:
        path = next((place / f"{task.template}.txt" for place in (own, FOLDER) if (place / f"{task.template}.txt").exists()), None)
        if path is None:
            raise QI2Error(f"there is no template {task.template}.txt in {own}; known are {', '.join(sorted(known_templates(own)))}")
        found[task.template] = path.read_text(encoding="utf-8").strip()
        slots = ["{facts}"] * SCHEMES[task.scheme].needs_facts + ["{language}"] * bool(task.language)
        if missing := [slot for slot in slots if slot not in found[task.template]]:
            raise QI2Error(f"{path} has no slot {missing[0]}; put it where the prompt names it")
    return found


def known_templates(folder: Path) -> set[str]:
    """Names of the templates in the package and in a folder."""
    return {path.stem for place in (FOLDER, folder) for path in place.glob("*.txt")}


def fill(template: str, task: Task, facts: str) -> str:
    """The prompt. Facts come from anywhere, so marks in them that a chat format would obey are broken up."""
    harmless = facts.replace("<|", "< |").replace("|>", "| >")
    return template.replace("{language}", LANGUAGES.get(task.language, "")).replace("{facts}", harmless)
