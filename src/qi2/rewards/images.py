"""Preference pairs made of a user's own curated images, for which no truth is known: the picture against a spoiled or a wrong one.

aesthetic: spoiled. alignment: another image. portrait: one half squeezed, for images whose caption names a person. instruction: the
source unchanged, or the result of another edit. consistency: the result disturbed, or with a part of another image pasted in.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from qi2.core import rng
from qi2.data.shards import Sidecar, plain_nulls
from qi2.data.world.degrade import disturb, spoil, squeeze
from qi2.rewards.config import NEEDS, RewardsConfig
from qi2.rewards.pairs import Judgement, Judgements
from qi2.training.pictures import square

if TYPE_CHECKING:
    import pandas as pd

LEAST = 20  # images below which pairs of them would teach nothing
MANIFEST = "stage6.parquet"


def names_person(text: str, words: Sequence[str]) -> bool:
    """Whether a prompt asks for a person, so that the portrait reward applies."""
    return any(word in words for word in re.findall(r"[a-z]+", text.lower()))


def image_pairs(dimension: str, raw: Path, curated: Path, config: RewardsConfig, seed: int) -> tuple[Judgements, Judgements] | None:
    """(training pairs, held-out pairs) of the user's images that curation kept, or None where there are too few for the dimension."""
    rows = user_rows(dimension, curated, config)
    if len(rows) < LEAST:
        return None
    number = rows["id"].map(lambda name: rng.key(seed, f"rewards/heldout/{name}"))
    rows = rows.assign(number=number).sort_values("number", kind="stable")
    apart = max(2, round(config.heldout_share * len(rows)))
    side = Sidecar.load(raw)
    source = _Images(side, rows.iloc[apart:], config.size, dimension, seed)
    held = _Images(side, rows.iloc[:apart], config.size, dimension, seed)
    wanted = getattr(config, dimension).pairs
    return Judgements(wanted, source.get, "images"), Judgements(min(config.heldout, 4 * apart), held.get, "images")


def user_rows(dimension: str, curated: Path, config: RewardsConfig) -> "pd.DataFrame":
    """The manifest's rows that can be shown for a dimension; none where the data are not the user's own."""
    import pandas as pd

    table = plain_nulls(pd.read_parquet(curated / MANIFEST, columns=["id", "source", "task", "captions", "references"]))
    task = "ti2i" if NEEDS[dimension].source else "t2i"
    table = table[(table["source"] == "user") & (table["task"] == task) & (table["captions"].map(len) > 0)]
    if dimension != "portrait":
        return table
    return table[[any(names_person(text, config.portrait_words) for text in captions) for captions in table["captions"]]]


@dataclass
class _Images:
    """Pairs by index over some rows."""

    side: Sidecar
    rows: "pd.DataFrame"
    size: int
    dimension: str
    seed: int

    def get(self, index: int) -> Judgement:
        """A pair whose first picture is the better one; all of an image stay together."""
        draw = rng.numpy_rng(self.seed, f"rewards/images/{self.dimension}", index)
        place = index % len(self.rows)
        row, other = self.rows.iloc[place], self.rows.iloc[(place + 1 + int(draw.integers(len(self.rows) - 1))) % len(self.rows)]
        better = self._open(row["id"])
        sources = tuple(self._open(name) for name in row["references"])
        prompt = row["captions"][int(draw.integers(len(row["captions"])))]
        return Judgement(prompt, (better, self._worse(better, sources, other["id"], draw)), 1, sources, group=str(row["id"]))

    def _worse(self, better: Image.Image, sources: Sequence[Image.Image], other: str, draw: np.random.Generator) -> Image.Image:
        if self.dimension == "aesthetic":
            return spoil(better, draw)
        if self.dimension == "portrait":
            return squeeze(better, draw)
        if self.dimension == "alignment":
            return self._open(other)
        if self.dimension == "instruction":
            return sources[0] if draw.random() < 0.5 else self._open(other)
        return disturb(better, draw) if draw.random() < 0.5 else paste_part(better, self._open(other), draw)

    def _open(self, name: str) -> Image.Image:
        return square(self.side.image(name), self.size)


def paste_part(image: Image.Image, other: Image.Image, draw: np.random.Generator) -> Image.Image:
    """The picture with a rectangle of another, a sixteenth to a quarter of its area."""
    width, height = (int(draw.integers(side // 4, side // 2 + 1)) for side in image.size)
    x, y = int(draw.integers(image.width - width + 1)), int(draw.integers(image.height - height + 1))
    result = image.copy()
    result.paste(other.crop((x, y, x + width, y + height)), (x, y))
    return result
