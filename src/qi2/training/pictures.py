"""The pictures of data sets at the sizes that networks read them at, and the frozen networks' views of a batch of them.

At every size an image is resized so that it covers its aspect bucket there, and cut to it in the middle. None is enlarged: a sample exists at
the sizes that its target fills, a smaller reference comes at the largest size that it fills; the VLM and the VAE see the same picture.
"""

from collections.abc import Iterator

import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from qi2.data.aspect import bucket
from qi2.data.shards import Sidecar
from qi2.models.condition import ConditionEncoder
from qi2.models.pixels import to_tensor
from qi2.models.vae import VAE

BATCH = 128
PIXELS = BATCH * 256 * 256  # of one pass through a network
KEPT_BYTES = 1 << 30  # of pictures at their sizes that are kept, as between VAE and VLM; others are decoded again
Box = tuple[int, int]


class Pictures:
    """The images of the data sets, by index, each in its bucket at a size."""

    def __init__(self, names: list[str], sets: dict[int, Sidecar], sizes: list[int]) -> None:
        self.names, self.sizes = names, sorted(sizes)
        self.held = {name: side for side in sets.values() for name in side.table["id"]}
        self.full: dict[str, Box] = {}
        for side in sets.values():
            self.full |= upright_sizes(side.table)
        self._kept: dict[tuple[int, int], Image.Image] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.names)

    def side(self, i: int) -> int:
        """The largest size that an image fills, 0 where it fills none."""
        return max((size for size in self.sizes if min(self.full[self.names[i]]) >= size), default=0)

    def level(self, i: int, size: int) -> int:
        """The size at which an image comes as a reference: not above what it fills, unless it fills none."""
        return min(size, self.side(i) or self.sizes[0])

    def box(self, i: int, size: int) -> Box:
        """Width and height of its bucket."""
        width, height = self.full[self.names[i]]
        return bucket(size, width / height)

    def __call__(self, i: int, size: int) -> Image.Image:
        """The image at a size, cut to its bucket."""
        if (i, size) in self._kept:
            return self._kept[i, size]
        picture = cover(self.held[self.names[i]].image(self.names[i]), self.box(i, size))
        if self._bytes < KEPT_BYTES:
            self._kept[i, size] = picture
            self._bytes += 3 * picture.width * picture.height
        return picture


def upright_sizes(table: pd.DataFrame) -> dict[str, Box]:
    """Width and height by id, as readers see the pictures; rows that EXIF turns by a quarter change both."""
    turned = table["orientation"].to_numpy(float) >= 5 if "orientation" in table else [False] * len(table)
    lines = zip(table["id"], table["width"].tolist(), table["height"].tolist(), turned, strict=True)
    return {name: (int(height), int(width)) if turn else (int(width), int(height)) for name, width, height, turn in lines}


def square(image: Image.Image, size: int) -> Image.Image:
    """The centred square of an image at ``size`` pixels."""
    return cover(image, (size, size))


def cover(image: Image.Image, box: Box) -> Image.Image:
    """An image resized so that it covers a box (width, height), and cut to it in the middle."""
    return image if image.size == box else ImageOps.fit(image, box, Image.Resampling.BOX)


@torch.no_grad()
def latents_of(vae: VAE, pictures: list[Image.Image]) -> Tensor:
    """Latents (B, 64, h, w) of pictures of one size, on the CPU."""
    return vae.encode(to_tensor(pictures).to(vae.latent_mean.device)).cpu()


@torch.no_grad()
def features_of(encoder: ConditionEncoder, pictures: list[Image.Image]) -> Tensor:
    """Vision features (B, C, h, w) of pictures of one size, on the CPU; of length 1, for only their direction is used and half precision keeps that."""
    return F.normalize(encoder.vision_features(to_tensor(pictures).to(encoder.model.device)), dim=1).cpu()


def pass_size(box: Box) -> int:
    """How many pictures of a box go through a network at once."""
    return max(1, min(BATCH, PIXELS // (box[0] * box[1])))


def chunks(items: list[int], n: int) -> Iterator[list[int]]:
    """At most ``n`` at a time."""
    for start in range(0, len(items), n):
        yield items[start : start + n]
