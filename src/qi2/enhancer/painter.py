"""The frozen generator in the loop: pictures of rewrites, drawn in batches and kept, because a group of rewrites repeats itself."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from PIL import Image

KEPT = 4096  # pictures


class Painter(Protocol):
    """Whoever draws: one picture per prompt, its source pictures (none for T2I) and its noise seed, at the generator's own size."""

    def __call__(self, prompts: Sequence[str], references: Sequence[Sequence[Image.Image]], seeds: Sequence[int]) -> list[Image.Image]: ...


Key = tuple[str, tuple[str, ...], int]


class CachedPainter:
    """Draws what it has not drawn lately, each different picture once."""

    def __init__(self, painter: Painter, kept: int = KEPT) -> None:
        self.painter, self.kept = painter, kept
        self.pictures: OrderedDict[Key, Image.Image] = OrderedDict()
        self.asked = self.drawn = 0

    def __call__(
        self, prompts: Sequence[str], names: Sequence[tuple[str, ...]], references: Sequence[Sequence[Image.Image]], seeds: Sequence[int]
    ) -> list[Image.Image]:
        """Pictures in the order of the prompts; ``names`` are what the references are known by."""
        keys = list(zip(prompts, names, seeds, strict=True))
        missing = {key: i for i, key in enumerate(keys) if key not in self.pictures}
        rows = list(missing.values())
        if rows:
            new = self.painter([prompts[i] for i in rows], [references[i] for i in rows], [seeds[i] for i in rows])
            self.pictures |= zip(missing, new, strict=True)
        self.asked, self.drawn = self.asked + len(keys), self.drawn + len(rows)
        found = [self.pictures[key] for key in keys]
        while len(self.pictures) > self.kept:
            self.pictures.popitem(last=False)
        return found
