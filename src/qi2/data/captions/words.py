"""The world's words in every language that has a file in ``languages/``; a new language is one file.

A file maps each value of the world to its forms (agreement by index), ``say`` holds the phrases that exact captions are made of,
and ``read`` the further forms and patterns by which a caption of anybody is read again.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from qi2.core.errors import QI2Error

FOLDER = Path(__file__).with_name("languages")
Words = dict[str, Any]


def known_languages() -> list[str]:
    """Codes of the languages that have words, e.g. ``["de", "en"]``."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


@lru_cache
def words(language: str) -> Words:
    """The table of a language; raises QI2Error when there is none."""
    path = FOLDER / f"{language}.json"
    if language not in known_languages():
        raise QI2Error(f"the world has no words in {language!r}; it speaks {', '.join(known_languages())}, and {path} would add it")
    table: Words = json.loads(path.read_text(encoding="utf-8"))
    return table


def join(items: list[str], marks: list[str]) -> str:
    """``a, b and c`` with marks ``[", ", " and "]``."""
    if len(items) < 2:
        return "".join(items)
    return marks[0].join(items[:-1]) + marks[1] + items[-1]
