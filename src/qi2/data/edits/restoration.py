"""Restoration: the spoilt photograph is the reference, the photograph itself the exact target."""

import io
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from qi2.data.edits.base import Change, Given, Operation, Rng, Templates, covered, everywhere, floats, picture, say
from qi2.data.edits.cut import draw_cut

HOLE = (128, 128, 128)
PHRASES: dict[str, Templates] = {
    "deblur": ("sharpen the blurred photo", "remove the blur", "make the photo sharp", "restore the sharp photo"),
    "denoise": ("remove the noise", "denoise the photo", "clean the grainy photo", "get rid of the grain"),
    "dejpeg": (
        "remove the compression artefacts",
        "repair the blocks of strong JPEG compression",
        "clean up the heavily compressed photo",
        "restore the photo to what it was before it was compressed",
    ),
    "upscale": (
        "restore the details of this enlarged small photo",
        "make the low resolution photo sharp and detailed",
        "increase the resolution",
        "turn this into a high resolution photo",
    ),
    "dehaze": ("remove the haze", "clear the fog from the photo", "make the hazy photo clear", "dehaze the photo"),
    "relight": ("the photo is too dark, correct the exposure", "brighten the underexposed photo", "fix the exposure", "light up the dark photo"),
    "descratch": ("remove the scratches", "repair the scratched photo", "restore the old scratched photo", "take away the white scratches"),
    "inpaint": ("fill the grey hole", "fill in the missing part", "complete the photo where it is grey", "inpaint the grey {shape}"),
}


def blur(image: Image.Image, rng: Rng) -> Image.Image:
    """Out of focus."""
    return image.filter(ImageFilter.GaussianBlur(max(1.2, min(image.size) * float(rng.uniform(0.006, 0.014)))))


def noise(image: Image.Image, rng: Rng) -> Image.Image:
    """Independent normal noise per channel."""
    return picture(floats(image) + rng.normal(0, rng.uniform(18, 45), (image.height, image.width, 3)))


def compressed(image: Image.Image, rng: Rng) -> Image.Image:
    """Decoded again from a JPEG of very low quality."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(5, 15)))
    return Image.open(buffer).convert("RGB")


def coarse(image: Image.Image, rng: Rng) -> Image.Image:
    """Reduced three to five times and enlarged again."""
    factor = int(rng.integers(3, 6))
    small = image.resize((max(1, image.width // factor), max(1, image.height // factor)), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def haze(image: Image.Image, rng: Rng) -> Image.Image:
    """Light grey over the picture, denser towards the top."""
    dense = np.linspace(rng.uniform(0.6, 0.75), rng.uniform(0.3, 0.5), image.height)[:, None, None]
    return picture(floats(image) * (1 - dense) + 215 * dense)


def underexposed(image: Image.Image, rng: Rng) -> Image.Image:
    """A quarter to a half of the light."""
    return picture(floats(image) * rng.uniform(0.22, 0.45))


SPOIL: dict[str, Callable[[Image.Image, Rng], Image.Image]] = {
    "deblur": blur,
    "denoise": noise,
    "dejpeg": compressed,
    "upscale": coarse,
    "dehaze": haze,
    "relight": underexposed,
}


def _restore(kind: str, given: Given) -> Change:
    spoilt = SPOIL[kind](given.photo, given.rng)
    return Change((spoilt,), given.photo, everywhere(given.photo), say(PHRASES[kind]))


def _descratch(given: Given) -> Change:
    rng, (width, height) = given.rng, given.photo.size
    scratches = Image.new("L", given.photo.size, 0)
    draw = ImageDraw.Draw(scratches)
    for _ in range(int(rng.integers(4, 10))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        steps = np.cumsum(rng.normal(0, 1, (12, 2)) + rng.normal(0, 1.5, 2), axis=0) * min(width, height) / 40
        draw.line([(x + dx, y + dy) for dx, dy in steps], fill=255, width=max(1, round(min(width, height) * rng.uniform(0.004, 0.01))))
    spoilt = given.photo.copy()
    spoilt.paste((245, 240, 230), (0, 0), scratches)
    return Change((spoilt,), given.photo, scratches, say(PHRASES["descratch"]))


def _inpaint(given: Given) -> Change:
    cut = draw_cut(given.rng, given.photo.size, (0.2, 0.4))
    hole = covered(cut.alpha)
    spoilt = given.photo.copy()
    spoilt.paste(HOLE, (0, 0), hole)
    return Change((spoilt,), given.photo, hole, say(PHRASES["inpaint"], {"shape": cut.shape}))


OPERATIONS = (
    *(Operation(kind, "restoration", partial(_restore, kind), faint=kind not in ("dehaze", "relight")) for kind in SPOIL),
    Operation("descratch", "restoration", _descratch, faint=True),
    Operation("inpaint", "restoration", _inpaint),
)
