"""Training images of the VAE: every image that any stage admits, at the sizes at which stages train."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.shards import read_image
from qi2.data.world.scene import RICH_KINDS
from qi2.models.pixels import to_tensor
from qi2.vae.config import ImageBatch

if TYPE_CHECKING:
    import pandas as pd

POOLS = ("scene", "rich", "photo")
_COLUMNS = ["id", "shard", "offset", "length", "source", "kind"]


def admitted(curated: Path) -> "pd.DataFrame":
    """The training rows of all curated stages, each once, in the order of their ids; raises QI2Error when there is none."""
    import pandas as pd

    tables = [pd.read_parquet(path) for path in sorted(Path(curated).glob("stage*.parquet"))]
    rows = pd.concat(tables)[[*_COLUMNS, "split"]] if tables else pd.DataFrame(columns=[*_COLUMNS, "split"])
    rows = rows[rows["split"] == "train"].drop_duplicates("id").sort_values("id", ignore_index=True)
    if rows.empty:
        raise QI2Error(f"{curated}/stage*.parquet hold no training row; run the stage `curate` first, or loosen its thresholds")
    return rows


def pool_of(source: str, kind: str | None) -> str:
    """The pool of a row: the world's small scenes, its richer pictures, or everything else."""
    if source != "world":
        return "photo"
    return "rich" if kind in RICH_KINDS else "scene"


def square(image: Image.Image, side: int, rng: np.random.Generator | None) -> Image.Image:
    """A square of ``side`` pixels: with ``rng`` a crop of random place and scale, without it the whole picture.

    A crop covers between ``side`` pixels (all, where there are fewer) and the whole of the shorter side.
    """
    box = (0, 0, *image.size)
    if rng is not None:
        shorter = min(image.size)
        reach = int(rng.integers(min(side, shorter), shorter + 1))
        left, top = int(rng.integers(image.width - reach + 1)), int(rng.integers(image.height - reach + 1))
        box = (left, top, left + reach, top + reach)
    if image.size == (side, side) and box == (0, 0, side, side):
        return image
    return image.resize((side, side), Image.Resampling.BOX if rng is None else Image.Resampling.LANCZOS, box=box)


def recolor(images: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Give about ``share`` of the images (B,3,H,W) other colours: channels dealt anew, and each moved towards dark or light.

    Without it a small decoder learns which shapes come in which colours and repaints a combination that it has never seen.
    """
    count = len(images)
    chosen = rng.random(count) < share
    order = np.where(chosen[:, None], rng.permuted(np.tile(np.arange(3), (count, 1)), axis=1), np.arange(3))
    contrast = np.where(chosen[:, None], rng.uniform(0.6, 1.0, (count, 3)), 1.0)
    end = rng.choice([-1.0, 1.0], (count, 3))
    scale, shift = (torch.from_numpy(x).float()[:, :, None, None] for x in (contrast, end * (1 - contrast)))
    return images[torch.arange(count)[:, None], torch.from_numpy(order)] * scale + shift


class TrainingImages:
    """Draws batches; a batch is a pure function of the seed and the step. One batch holds images of one pool and one size."""

    def __init__(self, raw: Path, rows: "pd.DataFrame", batches: Sequence[ImageBatch], seed: int, recolor: float = 0.0) -> None:
        self.raw, self.seed, self.recolor = Path(raw), seed, recolor
        self.pools: dict[str, list[Mapping[str, Any]]] = {name: [] for name in POOLS}
        records: list[dict[str, Any]] = rows[_COLUMNS].to_dict("records")  # type: ignore[assignment]
        for row in records:
            self.pools[pool_of(row["source"], row["kind"])].append(row)
        unknown = {batch.pool for batch in batches} - set(POOLS)
        if unknown:
            raise QI2Error(f"vae.batches: no pool {sorted(unknown)[0]!r}; choose from {', '.join(POOLS)}")
        self.batches = [batch for batch in batches if self.pools[batch.pool]]
        if not self.batches:
            raise QI2Error(f"vae.batches name no pool that has images; pools with images: {[n for n in POOLS if self.pools[n]]}")

    def batch(self, step: int) -> Tensor:
        """(B,3,side,side) in [-1,1]."""
        rng = numpy_rng(self.seed, "vae/batch", step)
        share = np.array([batch.share for batch in self.batches])
        images = self.draw(self.batches[int(rng.choice(len(share), p=share / share.sum()))], rng)
        return recolor(images, self.recolor, rng)

    def draw(self, batch: ImageBatch, rng: np.random.Generator) -> Tensor:
        """One batch of the given kind."""
        pool = self.pools[batch.pool]
        rows = [pool[int(i)] for i in rng.integers(len(pool), size=batch.size)]
        crop = rng if batch.pool == "photo" else None
        return to_tensor([square(read_image(self.raw, row), batch.side, crop) for row in rows])

    def largest(self) -> Tensor:
        """A batch of the kind that has the most pixels."""
        return self.draw(max(self.batches, key=lambda batch: batch.size * batch.side**2), numpy_rng(self.seed, "vae/largest"))

    def sample(self, images: int) -> list[Tensor]:
        """About ``images`` per kind of batch, in proportion to the shares, for statistics; the same for the same seed."""
        mean = sum(b.share for b in self.batches) / len(self.batches)
        kinds = [ImageBatch(b.pool, b.side, max(1, round(images * b.share / mean)), b.share) for b in self.batches]
        return [self.draw(kind, numpy_rng(self.seed, "vae/statistics", i)) for i, kind in enumerate(kinds)]
