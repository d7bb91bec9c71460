"""The filters: opt-out, then the report's in its order (2.3, Figure 6). A new filter is one file, one line here, and one test."""

from collections.abc import Callable

from qi2.core.errors import QI2Error
from qi2.data.filters import (
    aesthetic,
    broken,
    clip,
    compression,
    entropy,
    exact,
    near,
    nsfw,
    opt_out,
    pair,
    quality,
    resolution,
    rotation,
    semantic,
    token_length,
    upright,
)
from qi2.data.filters.base import Filter, Picture, Scorer
from qi2.data.filters.models import ModelPaths

FILTERS: tuple[Filter, ...] = (
    opt_out.FILTER,
    broken.FILTER,
    resolution.FILTER,
    exact.FILTER,
    near.FILTER,
    semantic.FILTER,
    nsfw.FILTER,
    rotation.FILTER,
    upright.FILTER,
    entropy.FILTER,
    clip.FILTER,
    token_length.FILTER,
    *pair.FILTERS,
    quality.FILTER,
    aesthetic.FILTER,
    compression.FILTER,
)
SCORERS: dict[str, Callable[[ModelPaths, str], Scorer]] = {
    "nsfw": nsfw.NSFWScorer,
    "orientation": upright.OrientationScorer,
    "clip": clip.ClipScorer,
    "tokenizer": token_length.TokenScorer,
}


def measure(picture: Picture) -> dict[str, object]:
    """The columns of all filters that look at one picture alone."""
    columns: dict[str, object] = {}
    for item in FILTERS:
        if item.measure is not None:
            columns |= item.measure(picture)
    return columns


def load_scorers(paths: ModelPaths, device: str) -> list[Scorer]:
    """The models of the filters that need one, loaded; without a path a filter has no scores and rejects nothing.

    Raises QI2Error for an aesthetic head without the CLIP whose vectors it reads.
    """
    if paths.aesthetic and not paths.clip:
        raise QI2Error(f"standins.aesthetic.path={paths.aesthetic!r} reads CLIP's image vectors, and there is no CLIP; set standins.clip.path")
    return [scorer(paths, device) for name, scorer in SCORERS.items() if getattr(paths, name)]
