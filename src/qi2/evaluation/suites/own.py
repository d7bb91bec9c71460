"""A suite of a user's own portraits: does a person stay who they are in new scenes, alone and together (report section 5, identity preservation)?

This project ships no picture of a person, so the faces are the user's. Pictures stay where they are: the suite names them, and its hash covers their bytes.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from qi2.core.errors import QI2Error
from qi2.core.publish import write_file
from qi2.evaluation.suites.suite import Suite, load_suite

IMAGES = (".png", ".jpg", ".jpeg", ".webp")
MOST = 3  # pictures of one subject that are shown to the model
ALONE = (
    ("scene", "A photograph of this person in a library, reading, seen from the side."),
    ("scene", "This person rides a bicycle along a canal on a sunny day."),
    ("light", "A portrait of this person by candlelight, smiling."),
    ("clothes", "This person in a yellow raincoat under an umbrella, shown from the waist up."),
    ("style", "A pencil drawing of this person's face, looking at the viewer."),
    ("age", "This person twenty years older, laughing at a birthday table."),
    ("edit", "Change the background to plain light grey, and leave the person as they are."),
    ("edit", "Let the person raise one hand and wave, and change nothing else."),
)
TWO = (
    "The person of the first image and the person of the second image shake hands in front of a red door.",
    "The person of the first image takes a photograph of the person of the second image on a beach.",
)
THREE = ("The persons of the three images sit side by side on a park bench, from left to right in the order of the images.",)
RUBRIC = (
    "Give preservation from 0 (another person) to 4 (beyond doubt the same: face, hair, skin and build, with what marks them), the least of them where there "
    "are several, and following from 0 (nothing of the instruction) to 4 (all of it), whatever became of the person."
)
COMMON = {"task": "edit", "images": 2, "licence": "your pictures", "source": "written for qi2; portraits of the user"}
JUDGED = {"scorer": "judge", "aggregate": "dreambench", "defaults": {"rubric": RUBRIC}, "about": "Persons kept in new scenes, alone and together"}
NEAR = {"scorer": "similarity", "aggregate": "similarity", "about": "Nearness of these pictures to the portraits; give an encoder that tells faces apart"}


def identity_suites(folder: Path, out: Path) -> list[Suite]:
    """Write ``identity-FOLDER`` (judge) and ``identity-FOLDER-similarity`` to ``out`` and return them checked.

    A picture in ``folder`` is one subject, a folder in it one with several pictures. Raises QI2Error where there is none.
    """
    people = subjects(folder)
    if not people:
        raise QI2Error(f"{folder} holds no portraits; put one picture ({', '.join(IMAGES)}) per person in it, or one folder of pictures per person")
    name = "identity-" + re.sub(r"[^\w-]+", "-", folder.resolve().name.lower())
    out.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows([[os.path.relpath(path, out) for path in group] for group in people]))
    write_file(out / f"{name}.jsonl", lines.encode())
    return [_written(out, {"name": suite} | values | COMMON | {"prompts": f"{name}.jsonl"}) for suite, values in ((name, JUDGED), (f"{name}-similarity", NEAR))]


def subjects(folder: Path) -> list[list[Path]]:
    """The pictures of every subject, at most MOST each, by name."""
    if not folder.is_dir():
        raise QI2Error(f"there is no folder {folder}; give one with portraits")
    groups = [_images(path) if path.is_dir() else [path] for path in sorted(folder.iterdir()) if path.is_dir() or path.suffix.lower() in IMAGES]
    return [group[:MOST] for group in groups if group]


def _images(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGES]


def _rows(people: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Everyone alone in every scene; everyone with the next, and with the next two, by their first pictures."""
    rows = [_row(category, prompt, person) for person in people for category, prompt in ALONE]
    for count, category, prompts in ((2, "two_people", TWO), (3, "three_people", THREE)):
        starts = range(len(people)) if len(people) > count else range(len(people) // count)  # a circle, which closes at once where all belong to one group
        groups = [[people[(start + i) % len(people)][0] for i in range(count)] for start in starts]
        rows += [_row(category, prompt, group) for group in groups for prompt in prompts]
    return [{"id": str(number), **row} for number, row in enumerate(rows, 1)]


def _row(category: str, prompt: str, references: Sequence[str]) -> dict[str, Any]:
    return {"category": category, "prompt": prompt, "references": list(references)}


def _written(out: Path, values: dict[str, Any]) -> Suite:
    path = out / f"{values['name']}.yaml"
    write_file(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=150).encode())
    return load_suite(path)
