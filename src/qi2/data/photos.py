"""Crops of the photographs that scikit-image ships: real pixels for curation and the VAE. No person is shown; all may be redistributed."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.shards import Row
from qi2.data.world.defects import encode_jpeg, encode_png

OVERLAP = 0.25  # of the smaller crop that two crops of one photograph may share
ATTEMPTS = 60
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Photo:
    """One photograph of the package's data folder, with its licence and captions that are true of most crops."""

    file: str
    licence: str
    split: str
    captions: tuple[str, ...]


PHOTOS = (
    Photo("chelsea.png", "CC0-1.0", "train", ("a photo of a cat", "part of a photo of a brown cat", "a close photo of the face of a cat")),
    Photo(
        "coffee.png",
        "CC0-1.0",
        "train",
        ("a photo of a cup of coffee", "a cup of coffee on a wooden table", "part of a photo of a coffee cup"),
    ),
    Photo(
        "hubble_deep_field.jpg",
        "public-domain",
        "train",
        ("a photo of galaxies", "galaxies in the black night sky", "part of a photo of stars and galaxies"),
    ),
    Photo("brick.png", "CC0-1.0", "train", ("a photo of a brick wall", "grey bricks in a wall", "part of a photo of bricks")),
    Photo("gravel.png", "CC0-1.0", "train", ("a photo of gravel", "many small grey stones", "part of a photo of gravel")),
    Photo("text.png", "public-domain", "train", ("a photo of written formulas", "black writing on grey paper", "part of a photo of writing")),
    Photo(
        "rocket.jpg",
        "public-domain",
        "heldout",
        ("a photo of a rocket at night", "a white rocket and the blue night sky", "part of a photo of a rocket"),
    ),
    Photo("grass.png", "CC0-1.0", "heldout", ("a photo of grass", "grey grass in the wind", "part of a photo of grass")),
    Photo(
        "clock_motion.png",
        "public-domain",
        "heldout",
        ("a photo of a clock in motion", "a blurred clock on a grey wall", "part of a photo of a clock"),
    ),
)


def load(photo: Photo) -> Image.Image:
    """The whole photograph, RGB; raises QI2Error when the installed scikit-image does not ship it."""
    path = files("skimage") / "data" / photo.file
    if not path.is_file():
        raise QI2Error(f"scikit-image does not ship {photo.file}; install the locked version, or set data.photo_crops=0 data.heldout_crops=0")
    with path.open("rb") as handle:
        return Image.open(handle).convert("RGB")


def photo_crops(n: int, sizes: list[int], seed: int, split: str) -> Iterator[Row]:
    """Up to ``n`` crops with random sides from ``sizes``, at full or half scale, in turn over the split's photographs.

    Crops of one photograph overlap little; fewer than ``n`` come when the photographs are used up.
    """
    photos = [photo for photo in PHOTOS if photo.split == split]
    shares = [n // len(photos) + (index < n % len(photos)) for index in range(len(photos))]
    for photo, share in zip(photos, shares, strict=True):
        rng = numpy_rng(seed, f"photo-{photo.file}")
        whole = load(photo)
        scaled = {scale: whole.resize((whole.width // scale, whole.height // scale), Image.Resampling.BOX) for scale in (1, 2)}
        name = photo.file.split(".")[0].replace("_", "-")
        for index, (scale, box) in enumerate(_boxes(whole.size, share, sizes, rng)):
            data, extension = _encode(scaled[scale].crop(box), rng)
            captions = tuple(photo.captions[int(i)] for i in rng.permutation(len(photo.captions)))
            yield Row(f"photo-{name}-{index:03d}", data, extension, captions, "photo", kind="photo", split=split, licence=photo.licence)


def _boxes(size: tuple[int, int], n: int, sizes: list[int], rng: np.random.Generator) -> list[tuple[int, Box]]:
    """(scale divisor, crop box) pairs; boxes at one scale overlap at most by ``OVERLAP``."""
    found: list[tuple[int, Box]] = []
    for _ in range(n * ATTEMPTS):
        if len(found) == n:
            break
        scale = 1 + int(rng.random() < 0.3)
        width, height = (sizes[int(rng.integers(len(sizes)))] for _ in range(2))
        room = (size[0] // scale - width, size[1] // scale - height)
        if min(room) < 0 or max(width, height) > 2 * min(width, height):
            continue
        left, top = int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))
        box = (left, top, left + width, top + height)
        if all(scale != other or _shared(box, taken) <= OVERLAP for other, taken in found):
            found.append((scale, box))
    return found


def _shared(one: Box, other: Box) -> float:
    """The area that two boxes share, of the smaller one."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return max(width, 0) * max(height, 0) / min(areas)


def _encode(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Two of three as JPEG of quality 80 to 97, the others as PNG."""
    if rng.random() < 2 / 3:
        return encode_jpeg(image, int(rng.integers(80, 98))), "jpg"
    return encode_png(image), "png"
