"""Colours of a page: random, and always readable."""

import colorsys
from dataclasses import dataclass

import numpy as np

RGB = tuple[int, int, int]
READABLE = 4.5  # least contrast between text and its ground; WCAG asks 3 of large text and 4.5 of small


@dataclass(frozen=True)
class Theme:
    """The page's ground, a strong colour, and the ground of its panels; ``ink`` tells the text colour on any of them."""

    ground: RGB
    accent: RGB
    panel: RGB
    hue: float

    def ink(self, ground: RGB) -> RGB:
        """Near black or near white, tinted with the page's hue: the one that is read better on ``ground``."""
        dark, light = _color(self.hue, 0.6, 0.12), _color(self.hue, 0.04, 0.99)
        tinted = max((dark, light), key=lambda ink: contrast(ink, ground))
        return tinted if contrast(tinted, ground) >= READABLE else max(((0, 0, 0), (255, 255, 255)), key=lambda ink: contrast(ink, ground))

    def strong(self, ground: RGB) -> RGB:
        """The strong colour where it can be read on ``ground``, else the ink."""
        return self.accent if contrast(self.accent, ground) >= READABLE else self.ink(ground)


def random_theme(rng: np.random.Generator) -> Theme:
    """One hue and its neighbours, on a light or (one of three) a dark ground."""
    hue, other = rng.random(), rng.uniform(-0.15, 0.5)
    accent = _color(hue + other, rng.uniform(0.55, 1), rng.uniform(0.4, 0.9))
    if rng.random() < 1 / 3:
        return Theme(_color(hue, rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.3)), accent, _color(hue, 0.4, 0.4), hue)
    return Theme(_color(hue, rng.uniform(0, 0.2), rng.uniform(0.92, 1)), accent, _color(hue, rng.uniform(0.1, 0.35), 0.9), hue)


def contrast(one: RGB, other: RGB) -> float:
    """The contrast ratio of WCAG 2, 1 to 21."""
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(color: RGB) -> float:
    parts = [value / 255 for value in color]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _color(hue: float, saturation: float, value: float) -> RGB:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
