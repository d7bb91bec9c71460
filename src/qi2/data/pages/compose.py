"""The composer that the kinds draw with: boxes, bars and texts on one page.

Kinds think from left to right. Where a page is read from the right (Arabic, Hebrew, vertical Japanese), the composer mirrors every box.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from qi2.core.errors import QI2Error
from qi2.data.pages.colors import RGB, random_theme
from qi2.data.pages.fonts import drawable, families, has_raqm
from qi2.data.pages.languages import Writer
from qi2.data.pages.layout import Box, Manner, Setting, fit
from qi2.data.pages.page import Block

LEAST_EM = {"Latin": 13, "Cyrillic": 13, "Greek": 13, "Hebrew": 14, "Han": 14, "Japanese": 14, "Hangul": 14}  # others 16: capitals of about 9 px
VERTICAL_SHARE = 0.5  # of the Japanese pages of a kind that may be vertical
Rng = np.random.Generator


class Composer:
    """One page in the making. ``least`` and ``body`` are the smallest and the usual text size in px per em, ``margin`` is in px."""

    def __init__(self, rng: Rng, language: str, size: tuple[int, int], split: str, folders: tuple[str, ...], vertical: bool) -> None:
        self.rng, self.size, self.write = rng, size, Writer(rng, language, split)
        self.theme, self.blocks = random_theme(rng), list[Block]()
        choices = families(language, folders)
        self._regular, self._bold = choices[int(rng.integers(len(choices)))]
        self.vertical = vertical
        self.least = LEAST_EM.get(self.write.form.script, 16)
        middle = float(np.sqrt(size[0] * size[1]))
        self.body = max(self.least, round(middle * rng.uniform(0.026, 0.042)))
        self.margin = max(3, round(min(size) * rng.uniform(0.04, 0.08)))
        self.image = Image.new("RGB", size, self.theme.ground)
        self.pen = ImageDraw.Draw(self.image)
        self._settings: list[tuple[Setting, RGB]] = []

    def mirrored(self, box: Box) -> Box:
        """The box as it lies on the page (and back)."""
        if not (self.vertical or self.write.form.direction == "rtl"):
            return box
        return self.size[0] - box[2], box[1], self.size[0] - box[0], box[3]

    def rectangle(self, box: Box, fill: RGB | None, radius: int = 0, outline: RGB | None = None, width: int = 1) -> None:
        """A filled or outlined box with round corners; right and bottom are outside."""
        left, top, right, bottom = self.mirrored(box)
        if right > left and bottom > top:
            self.pen.rounded_rectangle((left, top, right - 1, bottom - 1), min(radius, (right - left) // 2, (bottom - top) // 2), fill, outline, width)

    def ellipse(self, box: Box, fill: RGB) -> None:
        """A filled ellipse."""
        left, top, right, bottom = self.mirrored(box)
        if right > left and bottom > top:
            self.pen.ellipse((left, top, right - 1, bottom - 1), fill)

    def polygon(self, points: Sequence[tuple[float, float]], fill: RGB) -> None:
        """A filled polygon."""
        flip = self.mirrored((0, 0, 1, 1)) != (0, 0, 1, 1)
        self.pen.polygon([(self.size[0] - 1 - x if flip else x, y) for x, y in points], fill)

    def text(
        self,
        role: str,
        options: str | Sequence[str],
        box: Box,
        most: int,
        ground: RGB,
        color: RGB | None = None,
        *,
        align: str = "start",
        valign: str = "top",
        bold: bool = False,
        least: int | None = None,
        across: bool = False,
    ) -> Box | None:
        """Write the first option that fits the box and return the box of its ink; None, and nothing written, when none fits.

        ``most`` is the largest size in px per em, align is start, centre or end, ``across`` keeps a line horizontal on a vertical page.
        """
        manner = self._manner(align, valign, bold, across)
        for text in [options] if isinstance(options, str) else options:
            setting = fit(text, manner, self.mirrored(box), max(most, self.least), max(least or 0, self.least))
            if setting:
                self._add(role, text, setting, ground, color or self.theme.ink(ground))
                return self.mirrored(setting.box)
        return None

    def prose(self, role: str, sentences: list[str], box: Box, size: int, ground: RGB) -> Box | None:
        """Write as many of the sentences as fit the box at ``size``."""
        manner, fitting, low, high = self._manner("start", "top", False, False), None, 0, len(sentences)
        while low < high:
            middle = (low + high + 1) // 2
            setting = fit(self.write.join(sentences[:middle]), manner, self.mirrored(box), size, size)
            low, high, fitting = (middle, high, setting) if setting else (low, middle - 1, fitting)
        if fitting is None:
            return None
        self._add(role, self.write.join(sentences[:low]), fitting, ground, self.theme.ink(ground))
        del sentences[:low]
        return self.mirrored(fitting.box)

    def take_back(self) -> None:
        """Remove the text that was written last."""
        del self.blocks[-1], self._settings[-1]

    def written(self) -> Image.Image:
        """The picture: the graphics with all texts over them."""
        image = self.image.copy()
        draw = ImageDraw.Draw(image)
        for setting, color in self._settings:
            setting.draw(draw, color)
        return image

    def _manner(self, align: str, valign: str, bold: bool, across: bool) -> Manner:
        form, vertical = self.write.form, self.vertical and not across
        direction = "ttb" if vertical else form.direction
        sides = ("left", "right") if self.mirrored((0, 0, 1, 1)) == (0, 0, 1, 1) else ("right", "left")
        side = {"start": sides[0], "centre": "centre", "end": sides[1]}[align]
        return Manner(self._bold if bold else self._regular, self.write.code, direction, form.spaced, side, valign)

    def _add(self, role: str, text: str, setting: Setting, ground: RGB, color: RGB) -> None:
        manner, form = setting.manner, self.write.form
        self._settings.append((setting, color))
        self.blocks.append(
            Block(role, text, setting.lines, manner.code, form.script, manner.direction, setting.box, setting.size, manner.face.family, color, ground)
        )


def compose(rng: Rng, kind: str, language: str, size: tuple[int, int], split: str, folders: tuple[str, ...]) -> Composer:
    """A page of the kind with its graphics drawn and its texts set; raises QI2Error for a kind or language that cannot be drawn."""
    from qi2.data.pages.kinds import KINDS, VERTICAL

    if kind not in KINDS:
        raise QI2Error(f"no page kind {kind!r}; choose from {', '.join(KINDS)}")
    if language not in drawable(folders):
        raise QI2Error(f"pages in {language!r} cannot be drawn here; choose from {', '.join(drawable(folders))}, or install fonts")
    vertical = language == "ja" and kind in VERTICAL and has_raqm() and bool(rng.random() < VERTICAL_SHARE)
    composer = Composer(rng, language, size, split, folders, vertical)
    KINDS[kind](composer)
    return composer
