"""Rows of pages for ingest. A row depends on nothing but the settings, the seed and its number, so that any process may draw it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.pages.captions import general_caption, text_caption
from qi2.data.pages.fonts import drawable
from qi2.data.pages.kinds import KINDS
from qi2.data.pages.languages import language
from qi2.data.pages.page import ASPECT, draw_page
from qi2.data.shards import Row
from qi2.data.world.defects import encode_png


def page_rows(
    n: int,
    sizes: Sequence[int],
    kinds_mix: Mapping[str, float],
    languages_mix: Mapping[str, float],
    seed: int,
    split: str,
    folders: tuple[str, ...] = (),
) -> Iterator[Row]:
    """``n`` rows of one split; their titles never occur in the other one."""
    for index in range(n):
        yield page_row(index, sizes, kinds_mix, languages_mix, seed, split, folders)


def page_row(
    index: int,
    sizes: Sequence[int],
    kinds_mix: Mapping[str, float],
    languages_mix: Mapping[str, float],
    seed: int,
    split: str,
    folders: tuple[str, ...] = (),
) -> Row:
    """Row number ``index``: both sides are drawn from ``sizes`` (px), kind and language by weight.

    Languages that have no font here leave their share to the others (one warning per script). Raises QI2Error for unknown kinds or languages, or when
    nothing can be drawn.
    """
    rng = numpy_rng(seed, f"page-{split}", index)
    for code in languages_mix:
        language(code)
    kind = _choose(rng, kinds_mix, tuple(KINDS), "kinds of pages")
    code = _choose(rng, {name: share for name, share in languages_mix.items() if name in drawable(folders)}, drawable(folders), "languages of pages")
    image, page = draw_page(rng, kind, code, _size(rng, sizes), split, folders)
    name = f"page-{index:06d}" if split == "train" else f"page-{split}-{index:06d}"
    captions = (general_caption(page), text_caption(page))
    return Row(
        name,
        encode_png(image),
        "png",
        captions,
        source="synthetic",
        kind=f"page_{kind}",
        split=split,
        page=page.to_json(),
        caption_kind="text",
    )


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
