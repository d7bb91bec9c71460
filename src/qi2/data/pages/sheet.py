"""A contact sheet of pages, for people to look at: one row per language, one column per kind."""

from collections.abc import Sequence

from PIL import Image

from qi2.core.rng import numpy_rng
from qi2.data.pages.page import draw_page

GAP = 4


def sheet(kinds: Sequence[str], languages: Sequence[str], size: int = 256, seed: int = 0, folders: tuple[str, ...] = ()) -> Image.Image:
    """Square pages of ``size`` px; raises QI2Error for a kind or language that cannot be drawn."""
    step = size + GAP
    whole = Image.new("RGB", (len(kinds) * step + GAP, len(languages) * step + GAP), (60, 60, 60))
    for row, language in enumerate(languages):
        for column, kind in enumerate(kinds):
            image, _ = draw_page(numpy_rng(seed, f"page-sheet-{kind}-{language}"), kind, language, (size, size), folders=folders)
            whole.paste(image, (GAP + column * step, GAP + row * step))
    return whole
