"""Rows of pages for ingest. A row depends on nothing but the settings, the seed and its number, so that any process may draw it."""

from collections.abc import Mapping, Sequence

import numpy as np

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.pages.captions import general_caption, text_caption
from qi2.data.pages.config import PagesConfig
from qi2.data.pages.fonts import drawable
from qi2.data.pages.kinds import KINDS
from qi2.data.pages.languages import LANGUAGES, language
from qi2.data.pages.page import ASPECT, draw_page
from qi2.data.shards import Row
from qi2.data.world.defects import encode_png


def page_row(index: int, config: PagesConfig, seed: int, split: str) -> Row:
    """Row number ``index``: both sides are drawn from ``config.sizes``, kind and language by weight.

    Languages that have no font here leave their share to the others (one warning per script). Raises QI2Error for unknown kinds or languages, or when
    nothing can be drawn.
    """
    rng = numpy_rng(seed, f"page-{split}", index)
    folders = tuple(config.fonts)
    languages = config.languages or dict.fromkeys(LANGUAGES, 1.0)
    for code in languages:
        language(code)
    kind = _choose(rng, config.kinds or dict.fromkeys(KINDS, 1.0), tuple(KINDS), "kinds of pages")
    code = _choose(rng, {name: share for name, share in languages.items() if name in drawable(folders)}, drawable(folders), "languages of pages")
    image, page = draw_page(rng, kind, code, _size(rng, config.sizes), split, folders)
    name = f"page-{index:06d}" if split == "train" else f"page-{split}-{index:06d}"
    captions = (general_caption(page), text_caption(page))
    return Row(
        name, encode_png(image), "png", captions, source="synthetic", kind=f"page_{kind}", split=split, page=page.to_json(), caption_kind="text"
    )  # fmt: skip


def _choose(rng: np.random.Generator, mix: Mapping[str, float], known: Sequence[str], what: str) -> str:
    if unknown := set(mix) - set(known):
        raise QI2Error(f"unknown {what} {sorted(unknown)}; choose from {', '.join(known)}")
    names = [name for name, share in mix.items() if share > 0]
    if not names:
        raise QI2Error(f"none of the {what} asked for can be drawn; choose from {', '.join(known)}, or install fonts")
    shares = np.array([mix[name] for name in names], dtype=float)
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def _size(rng: np.random.Generator, sizes: Sequence[int]) -> tuple[int, int]:
    """Width and height, redrawn together until the page is not too narrow."""
    while True:
        width, height = (int(sizes[int(rng.integers(len(sizes)))]) for _ in range(2))
        if max(width, height) <= ASPECT * min(width, height):
            return width, height
