"""Setting text into a box: breaking lines by measured width, aligning, vertical columns, and the largest size at which nothing is clipped."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import ImageDraw

from qi2.data.pages.colors import RGB
from qi2.data.pages.fonts import Face, has_raqm
from qi2.data.pages.languages import texts

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are outside
SLACKS = (2, 6, 14)  # pixels kept free of a line: hinting and kerning make it a little longer than the sum of its words
SHRINK = 0.92
_OPENING, _CLOSING = "「『（(“«¿¡", "」』）)”»、。，．！？：；,.!?:;%ーぁぃぅぇぉっゃゅょァィゥェォッャュョ々"
_CJK = re.compile(rf"[{re.escape(_OPENING)}]*(?:[0-9A-Za-z.,:]+|.)[{re.escape(_CLOSING)}]*")
_MARKS = "[\u0e30-\u0e3a\u0e45-\u0e4e]"  # of Thai: they stay with the letter before them


@dataclass(frozen=True)
class Manner:
    """How a text is set. ``direction`` is ltr, rtl or ttb (columns from right to left); align is left, centre or right."""

    face: Face
    code: str  # language
    direction: str = "ltr"
    spaced: bool = True
    align: str = "left"
    valign: str = "top"


@dataclass(frozen=True)
class Setting:
    """A text set at ``size`` px per em: its lines, where each is anchored, and the box of its ink."""

    manner: Manner
    size: int
    lines: tuple[str, ...]
    points: tuple[tuple[float, float], ...]
    box: Box

    def draw(self, draw: ImageDraw.ImageDraw, color: RGB) -> None:
        """Write the lines."""
        font, options = self.manner.face.at(self.size), _options(self.manner)
        for line, point in zip(self.lines, self.points, strict=True):
            draw.text(point, line, color, font, anchor=_anchor(self.manner), **options)


def fit(text: str, manner: Manner, box: Box, most: int, least: int) -> Setting | None:
    """The text as large as it fits into the box, between ``least`` and ``most`` px per em; None when it does not fit at all."""
    size = most
    while size >= least:
        setting = set_text(text, manner, box, size)
        if setting or size == least:
            return setting
        size = max(least, min(size - 1, round(size * SHRINK)))
    return None


def set_text(text: str, manner: Manner, box: Box, size: int) -> Setting | None:
    """The text in the box at one size, or None when its ink would leave the box."""
    for slack in SLACKS:
        lines = break_lines(text, manner, _along(manner, box) - slack, size)
        setting = _place(lines, manner, box, size) if lines else None
        if setting or len(lines) < 2:
            return setting
    return None


def _along(manner: Manner, box: Box) -> int:
    """The length of a line or column."""
    return box[3] - box[1] if manner.direction == "ttb" else box[2] - box[0]


def _place(lines: list[str], manner: Manner, box: Box, size: int) -> Setting | None:
    vertical = manner.direction == "ttb"
    pitch, across = sum(manner.face.at(size).getmetrics()), box[2] - box[0] if vertical else box[3] - box[1]
    if (len(lines) - 1) * pitch + 0.5 * size > across:
        return None
    points = _columns(lines, box, pitch) if vertical else _rows(lines, manner, box, pitch)
    return _inside(Setting(manner, size, tuple(lines), tuple(points), box), box)


def break_lines(text: str, manner: Manner, width: float, size: int) -> list[str]:
    """Lines of about ``width`` pixels at most; empty when a word is wider than that."""
    lines, line, used = list[str](), "", 0.0
    for piece in pieces(text, manner.spaced, manner.code):
        advance = _advance(piece.rstrip(), manner.face, size, manner.code, manner.direction)
        if advance > width:
            return []
        if used + advance > width:
            lines.append(line.rstrip())
            line, used = "", 0.0
        line += piece
        used += _advance(piece, manner.face, size, manner.code, manner.direction)
    return [*lines, line.rstrip()] if line.strip() else lines


def pieces(text: str, spaced: bool, code: str) -> list[str]:
    """The parts between which a line may break: words with the space after them, Thai nouns and clusters, or characters with their punctuation."""
    if spaced:
        return re.findall(r"\S+\s*", text)
    return (_thai() if code == "th" else _CJK).findall(text)


@lru_cache(maxsize=1)
def _thai() -> re.Pattern[str]:
    """Known nouns stay whole; all else may break between clusters, since telling Thai words apart takes a dictionary."""
    nouns = "|".join(sorted(texts("th")["nouns"], key=len, reverse=True))
    return re.compile(rf"(?:{nouns})(?!{_MARKS})|[เแโใไ]?\S{_MARKS}*|\s+")


@lru_cache(maxsize=65536)
def _advance(piece: str, face: Face, size: int, code: str, direction: str) -> float:
    font = face.at(size)
    if direction == "ttb":
        return font.getlength(piece, direction="ttb", language=code)
    return font.getlength(piece)


def _rows(lines: list[str], manner: Manner, box: Box, pitch: int) -> list[tuple[float, float]]:
    x = {"left": box[0] + 1, "centre": (box[0] + box[2]) / 2, "right": box[2] - 1}[manner.align]
    return [(x, box[1] + pitch * (number + 1)) for number in range(len(lines))]


def _columns(lines: list[str], box: Box, pitch: int) -> list[tuple[float, float]]:
    return [(box[2] - pitch * (number + 0.5), box[1] + 1) for number in range(len(lines))]


def _inside(setting: Setting, box: Box) -> Setting | None:
    """The setting moved to where its ink belongs in the box, or None when the ink is larger."""
    ink = _ink(setting)
    dx = max(0, box[0] - ink[0]) or min(0, box[2] - ink[2])  # letters may stand out a little on either side
    dy = {"top": box[1] - ink[1], "middle": (box[1] + box[3] - ink[1] - ink[3]) // 2, "bottom": box[3] - ink[3]}[setting.manner.valign]
    if setting.manner.direction == "ttb":
        dx = {"left": box[0] - ink[0], "centre": (box[0] + box[2] - ink[0] - ink[2]) // 2, "right": box[2] - ink[2]}[setting.manner.align]
    placed = ink[0] + dx, ink[1] + dy, ink[2] + dx, ink[3] + dy
    if placed[0] < box[0] or placed[1] < box[1] or placed[2] > box[2] or placed[3] > box[3]:
        return None
    points = tuple((x + dx, y + dy) for x, y in setting.points)
    return Setting(setting.manner, setting.size, setting.lines, points, placed)


def _ink(setting: Setting) -> Box:
    """The pixels that the lines may touch: their measured boxes, one pixel wider for smoothed edges."""
    font, options, anchor = setting.manner.face.at(setting.size), _options(setting.manner), _anchor(setting.manner)
    boxes = [(font.getbbox(line, anchor=anchor, **options), point) for line, point in zip(setting.lines, setting.points, strict=True)]
    edges = [(left + x, top + y, right + x, bottom + y) for (left, top, right, bottom), (x, y) in boxes]
    left, top = (int(min(edge[i] for edge in edges) // 1) - 1 for i in (0, 1))
    right, bottom = (int(-(-max(edge[i] for edge in edges) // 1)) + 1 for i in (2, 3))
    return left, top, right, bottom


def _anchor(manner: Manner) -> str:
    return "mt" if manner.direction == "ttb" else {"left": "ls", "centre": "ms", "right": "rs"}[manner.align]


def _options(manner: Manner) -> dict[str, Any]:
    return {"direction": manner.direction, "language": manner.code} if has_raqm() else {}
