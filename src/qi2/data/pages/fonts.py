"""The fonts of this machine: which faces there are, which characters they really have, and which scripts can be drawn with them.

No font is shipped. A face is chosen by its own character map. That is not enough for scripts whose letters join, reorder or stack, nor for
vertical text: those also need Pillow's raqm layout, which loads libfribidi from the system.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont, features

from qi2.core.errors import QI2Error
from qi2.data.pages.languages import LANGUAGES, alphabet

FOLDERS = (
    "/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts",
    "/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts",
)  # fmt: skip
PACKAGES = {
    "Latin": "fonts-dejavu-core", "Cyrillic": "fonts-dejavu-core", "Greek": "fonts-dejavu-core", "Hebrew": "fonts-dejavu-core",
    "Arabic": "fonts-noto-core", "Devanagari": "fonts-noto-core", "Thai": "fonts-noto-core",
    "Han": "fonts-noto-cjk", "Japanese": "fonts-noto-cjk", "Hangul": "fonts-noto-cjk",
}  # fmt: skip
COMPLEX = frozenset({"Arabic", "Hebrew", "Devanagari", "Thai"})
RAQM = "Pillow finds no raqm layout; install the Debian packages libraqm0 and libfribidi0"
_STYLES = frozenset({"regular", "book", "roman", "normal", "medium", "bold"})
_ODD = (
    "mono",
    "math",
    "emoji",
    "symbol",
    "nastaliq",
    "rashi",
    "signwriting",
    "condensed",
    "display",
    "icon",
    "lastresort",
    "blank",
    "dings",
    "ornament",
    "braille",
)
_REGIONS = {"ja": "JP", "zh": "SC", "ko": "KR"}  # the same code points look different in these


@dataclass(frozen=True, order=True)
class Face:
    """One face of a font file."""

    family: str
    bold: bool
    path: str
    index: int = 0

    def at(self, size: int) -> ImageFont.FreeTypeFont:
        """The face at ``size`` pixels per em."""
        return _font(self.path, self.index, size)

    def covers(self, text: str) -> bool:
        """Whether the face has a glyph for every character."""
        return {ord(letter) for letter in text if not letter.isspace()} <= _coverage(self.path, self.index)


def has_raqm() -> bool:
    """Whether joined, reordered, stacked and vertical text can be laid out."""
    return bool(features.check("raqm"))


@lru_cache(maxsize=16)
def faces(folders: tuple[str, ...] = ()) -> tuple[Face, ...]:
    """Upright text faces in the usual folders and in ``folders``, sorted by name."""
    found: dict[tuple[str, bool], Face] = {}
    for folder in (*FOLDERS, *folders):
        for path in sorted(Path(folder).expanduser().rglob("*")):
            if path.suffix.lower() in (".ttf", ".otf", ".ttc"):
                for face in _faces_of(path):
                    found.setdefault((face.family, face.bold), face)
    return tuple(sorted(found.values()))


def covering(text: str, folders: tuple[str, ...] = ()) -> tuple[Face, ...]:
    """The faces that have every character of the text."""
    return tuple(face for face in faces(folders) if face.covers(text))


@lru_cache(maxsize=256)
def families(language: str, folders: tuple[str, ...] = ()) -> tuple[tuple[Face, Face], ...]:
    """(regular, bold) faces that have every character that pages of the language may show; one face twice where it has no partner."""
    usable = covering(alphabet(language), folders)
    region = _REGIONS.get(language, "")
    usable = tuple(face for face in usable if region and face.family.endswith(f" {region}")) or usable
    bold = {face.family: face for face in usable if face.bold}
    regular = {face.family: face for face in usable if not face.bold} or bold
    return tuple((face, bold.get(name, face)) for name, face in sorted(regular.items()))


@lru_cache(maxsize=16)
def missing_scripts(folders: tuple[str, ...] = ()) -> dict[str, str]:
    """Script -> why it cannot be drawn here and which Debian package helps; empty when all can."""
    missing = {} if has_raqm() else {"vertical Japanese": f"Japanese text in columns is left out: {RAQM}"}
    for code, language in LANGUAGES.items():
        if language.script in COMPLEX and not has_raqm():
            missing[language.script] = f"{language.script} text is left out: {RAQM}"
        elif not families(code, folders):
            package = PACKAGES[language.script]
            missing[language.script] = f"{language.script} text is left out: no font has all its letters; install the Debian package {package}"
    return missing


@lru_cache(maxsize=16)
def drawable(folders: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Codes of the languages that can be drawn. Warns of the others; raises QI2Error when there is none."""
    found = tuple(code for code, language in LANGUAGES.items() if language.script not in missing_scripts(folders) and families(code, folders))
    if not found:
        raise QI2Error("no text font was found, so no page can be drawn; install the Debian package fonts-dejavu-core, or name a folder of fonts")
    for text in missing_scripts(folders).values():
        warnings.warn(text, stacklevel=2)
    return found


def _faces_of(path: Path) -> Iterator[Face]:
    from fontTools.ttLib import TTCollection, TTFont, TTLibError

    try:
        parts = TTCollection(path, lazy=True).fonts if path.suffix.lower() == ".ttc" else [TTFont(path, lazy=True)]
        for index, part in enumerate(parts):
            family, style = str(part["name"].getDebugName(1)), str(part["name"].getDebugName(2)).lower()
            if style in _STYLES and not any(odd in family.lower().replace(" ", "") for odd in _ODD):
                yield Face(family, style == "bold", str(path), index)
    except (TTLibError, OSError, KeyError):  # a broken font file: as if it were not there
        return


@lru_cache(maxsize=2048)
def _coverage(path: str, index: int) -> frozenset[int]:
    from fontTools.ttLib import TTFont

    with TTFont(path, fontNumber=index, lazy=True) as font:
        return frozenset(font.getBestCmap() or ())


@lru_cache(maxsize=1024)
def _font(path: str, index: int, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, index)
