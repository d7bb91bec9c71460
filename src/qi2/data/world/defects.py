"""Deliberately bad rows, so that curation has something to reject: one function per defect, with known truth."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from qi2.core.errors import QI2Error
from qi2.data.world.captions import all_captions, captions
from qi2.data.world.mutate import wrong_scene
from qi2.data.world.render import render
from qi2.data.world.sample import choose, sample_scene
from qi2.data.world.scene import TINY_KINDS, Scene

Rng = np.random.Generator
EXIF_ORIENTATION = 0x0112
PNG_LEVEL = 1  # fast; pictures of the world stay small


@dataclass(frozen=True)
class Defect:
    """A file and captions that curation should reject (or correct); ``scene`` is what an intact picture shows, if it is known."""

    data: bytes
    extension: str
    captions: tuple[str, ...]
    scene: Scene | None = None


def make_defect(name: str, scene: Scene, rng: Rng, size: int, n_captions: int = 3) -> Defect:
    """Spoil the picture of ``scene`` in the way ``name``. Copies (names in COPIES) need a scene that another row shows at ``size``."""
    if name not in _MAKERS:
        raise QI2Error(f"no defect {name!r}; choose from {', '.join(DEFECTS)}")
    return _MAKERS[name](scene, rng, size, tuple(captions(scene, rng, n_captions)))


def encode_png(image: Image.Image) -> bytes:
    """PNG bytes, always the same for the same pixels."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def encode_jpeg(image: Image.Image, quality: int, orientation: int = 1) -> bytes:
    """JPEG bytes, with an EXIF orientation where it is not 1."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation != 1:
        exif[EXIF_ORIENTATION] = orientation
    image.save(buffer, "JPEG", quality=quality, exif=exif)
    return buffer.getvalue()


def hazard_image(rng: Rng, size: int, under: Image.Image | None = None) -> Image.Image:
    """The unsafe stand-in: broad diagonal stripes of black and signal yellow across a picture (of a random scene unless given)."""
    image = (under or render(sample_scene(rng, choose(rng, TINY_KINDS), "any"), size)).copy()
    stripes = Image.new("L", (4 * size, 4 * size), 0)
    draw = ImageDraw.Draw(stripes)
    step = 4 * size * rng.uniform(0.16, 0.28)
    slant = choose(rng, (-1, 1))
    offset = rng.uniform(0, step)
    for i in range(-14, 15):
        x = 2 * size + i * step + offset
        lean = slant * 2 * size
        draw.polygon([(x - lean, 0), (x + step / 2 - lean, 0), (x + step / 2 + lean, 4 * size), (x + lean, 4 * size)], fill=255)
    hazard = Image.composite(Image.new("RGB", image.size, (20, 20, 20)), Image.new("RGB", image.size, (255, 210, 0)), stripes.resize(image.size))
    return Image.blend(image, hazard, rng.uniform(0.75, 1.0))


Captions = tuple[str, ...]


def _truncated(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    data = encode_jpeg(render(scene, size), 90)
    return Defect(data[: int(len(data) * rng.uniform(0.5, 0.9))], "jpg", texts)


def _corrupt(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    """Random bytes inside the compressed pixels of a PNG, whose checksums notice it."""
    data = bytearray(encode_png(render(scene, size)))
    start = int(rng.integers(60, max(61, len(data) - 40)))
    data[start : start + 12] = rng.bytes(12)
    return Defect(bytes(data), "png", texts)


def _not_an_image(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    data = b"" if rng.random() < 0.5 else b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>"
    return Defect(data, "jpg", texts)


def _exact_copy(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    """The same pixels as another row, as the same bytes or in another format."""
    image = render(scene, size)
    if rng.random() < 0.5:
        return Defect(encode_png(image), "png", texts, scene)
    buffer = io.BytesIO()
    image.save(buffer, "BMP")
    return Defect(buffer.getvalue(), "bmp", texts, scene)


def _near_copy(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    """Another row's picture re-encoded, shifted a little, or resized."""
    image = render(scene, size)
    way = int(rng.integers(3))
    if way == 0:
        return Defect(encode_jpeg(image, int(rng.integers(80, 95))), "jpg", texts, scene)
    if way == 1:
        reach = max(1, round(0.02 * size))
        return Defect(encode_png(ImageChops.offset(image, reach, choose(rng, (-reach, 0, reach)))), "png", texts, scene)
    side = round(size * rng.uniform(1.1, 1.5))
    return Defect(encode_png(image.resize((side, side), Image.Resampling.BICUBIC)), "png", texts, scene)


def _rotated(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    """Stored on its side with an EXIF tag that says so; correct when it is turned upright."""
    orientation, turn = choose(rng, ((6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270), (3, Image.Transpose.ROTATE_180)))
    return Defect(encode_jpeg(render(scene, size).transpose(turn), 95, orientation), "jpg", texts, scene)


def _small(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    return Defect(encode_png(render(scene, max(8, size // int(rng.integers(3, 6))))), "png", texts, scene)


def _flat(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    color = tuple(int(value) for value in rng.integers(0, 256, 3))
    return Defect(encode_png(Image.new("RGB", (size, size), color)), "png", texts)


def _noise(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    return Defect(encode_png(Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))), "png", texts)


def _wrong_caption(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    """Captions of another scene: one attribute wrong, or everything."""
    other = wrong_scene(scene, rng)[1] if rng.random() < 0.3 else sample_scene(rng, choose(rng, TINY_KINDS))
    return Defect(encode_png(render(other, size)), "png", texts)


def _unsafe(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    return Defect(encode_png(hazard_image(rng, size, render(scene, size))), "png", texts)


def _long_caption(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    """A caption that says the same over and over."""
    every = all_captions(scene)
    return Defect(encode_png(render(scene, size)), "png", (" and ".join(every * int(rng.integers(3, 6))),), scene)


def _short_caption(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    return Defect(encode_png(render(scene, size)), "png", (choose(rng, ("", "a", "image")),), scene)


def _compressed(scene: Scene, rng: Rng, size: int, texts: Captions) -> Defect:
    return Defect(encode_jpeg(render(scene, size), int(rng.integers(3, 12))), "jpg", texts, scene)


_MAKERS: dict[str, Callable[[Scene, Rng, int, Captions], Defect]] = {
    "truncated": _truncated,
    "corrupt": _corrupt,
    "not_an_image": _not_an_image,
    "exact_copy": _exact_copy,
    "near_copy": _near_copy,
    "rotated": _rotated,
    "small": _small,
    "flat": _flat,
    "noise": _noise,
    "wrong_caption": _wrong_caption,
    "unsafe": _unsafe,
    "long_caption": _long_caption,
    "short_caption": _short_caption,
    "compressed": _compressed,
}
DEFECTS = tuple(_MAKERS)
COPIES = ("exact_copy", "near_copy")
