"""Preference pairs with known truth: for each reward dimension a better and a worse picture of the same subject (report 3.3)."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from qi2.core.errors import QI2Error
from qi2.data.world.edits import Edit
from qi2.data.world.mutate import wrong_scene
from qi2.data.world.palette import BACKGROUNDS, COLORS
from qi2.data.world.render import cell_box, paste_mark, render
from qi2.data.world.rich import draw_portrait
from qi2.data.world.sample import choose
from qi2.data.world.scene import Cell, Scene

Rng = np.random.Generator
Pair = tuple[Image.Image, Image.Image]

VISIBLE = 2.0  # least mean absolute difference (0..255) of a spoiled picture
DIMENSIONS = ("aesthetic", "alignment", "portrait", "instruction", "consistency")


def degrade(subject: Scene | Edit, rng: Rng, dimension: str, size: int = 64) -> Pair:
    """(better, worse) pictures of ``size`` px.

    aesthetic, alignment: a scene, clean against spoiled, right against one attribute wrong. portrait: a scene with a face, right
    against wrong anatomy. instruction, consistency: an edit, where the pictures are results for its references and instruction:
    done against not, partly or wrongly done; everything else untouched against changed.
    """
    if dimension not in DIMENSIONS:
        raise QI2Error(f"no reward dimension {dimension!r}; choose from {', '.join(DIMENSIONS)}")
    if isinstance(subject, Edit) != (dimension in ("instruction", "consistency")):
        raise QI2Error(f"dimension {dimension} cannot be shown with a {type(subject).__name__}")
    if isinstance(subject, Edit):
        worse = _disobey(subject, rng, size) if dimension == "instruction" else _disturb(subject, rng, size)
        return render(subject.target, size), worse
    if dimension == "portrait" and not subject.portrait:
        raise QI2Error("dimension portrait needs a scene with a face")
    make_worse = {"aesthetic": _spoil, "alignment": _misalign, "portrait": _disfigure}[dimension]
    return render(subject, size), make_worse(subject, rng, size)


def spoil(image: Image.Image, rng: Rng) -> Image.Image:
    """Any RGB picture with noise, blur, compression or wrong colours."""
    return _visibly(image, rng, (_noisy, _blurred, _compressed, _off_palette))


def disturb(image: Image.Image, rng: Rng) -> Image.Image:
    """Any RGB picture with noise or wrong colours."""
    return _visibly(image, rng, (_noisy, _off_palette))


def _misalign(scene: Scene, rng: Rng, size: int) -> Image.Image:
    return render(wrong_scene(scene, rng)[1], size)


def _spoil(scene: Scene, rng: Rng, size: int) -> Image.Image:
    """The right content, drawn badly."""
    if scene.objects and rng.random() < 0.2:
        return _displaced(scene, rng, size)
    return spoil(render(scene, size), rng)


def _visibly(image: Image.Image, rng: Rng, ways: Sequence[Callable[[Image.Image, Rng], Image.Image]]) -> Image.Image:
    """The picture spoiled in one of the ways, so that it shows (taking the colour from a grey picture would not)."""
    pixels = np.asarray(image, dtype=np.float32)
    while True:
        spoiled = choose(rng, ways)(image, rng)
        if np.abs(np.asarray(spoiled, dtype=np.float32) - pixels).mean() > VISIBLE:
            return spoiled


def _noisy(image: Image.Image, rng: Rng) -> Image.Image:
    noise = rng.normal(0.0, rng.uniform(12, 40), (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image, dtype=np.float32) + noise, 0, 255).astype(np.uint8))


def _blurred(image: Image.Image, rng: Rng) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.015, 0.04) * image.width))


def _compressed(image: Image.Image, rng: Rng) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(3, 16)))
    return Image.open(buffer).convert("RGB")


def _off_palette(image: Image.Image, rng: Rng) -> Image.Image:
    """Dull, dark or with a colour cast."""
    way = int(rng.integers(3))
    if way == 0:
        return ImageEnhance.Color(image).enhance(rng.uniform(0.15, 0.5))
    if way == 1:
        return ImageEnhance.Brightness(image).enhance(rng.uniform(0.35, 0.65))
    cast = np.roll([rng.uniform(0.5, 0.75), 1.0, 1.0], int(rng.integers(3)))
    return Image.fromarray((np.asarray(image, dtype=np.float32) * cast).astype(np.uint8))


def _displaced(scene: Scene, rng: Rng, size: int) -> Image.Image:
    """Every object off the middle of its cell."""
    image = render(Scene(scene.kind, scene.grid, scene.background, words=scene.words, texture=scene.texture), size)
    for item in scene.objects:
        left, top, right, bottom = cell_box(scene.grid, item.cell, size)
        reach = max(2, round(0.3 * (right - left)))
        dx, dy = (choose(rng, (-1, 1)) * int(rng.integers(max(1, reach // 2), reach + 1)) for _ in range(2))
        paste_mark(image, item.shape, COLORS[item.color], (left + dx, top + dy, right + dx, bottom + dy))
    return image


def _disfigure(scene: Scene, rng: Rng, size: int) -> Image.Image:
    """A face whose features are displaced, missing or squeezed."""
    assert scene.portrait is not None
    way = int(rng.integers(3))
    image = Image.new("RGB", (size, size), BACKGROUNDS[scene.background])
    if way == 2:
        draw_portrait(image, scene.portrait)
        return squeeze(image, rng)
    feature = choose(rng, ("left_eye", "right_eye", "mouth", "nose"))
    gone = (2.0, 2.0)
    moved = (choose(rng, (-1, 1)) * rng.uniform(0.05, 0.12), choose(rng, (-1, 1)) * rng.uniform(0.05, 0.1))
    draw_portrait(image, scene.portrait, {feature: gone if way == 0 else moved})
    return image


def squeeze(image: Image.Image, rng: Rng) -> Image.Image:
    """A square picture with one half drawn narrower than the other."""
    size = image.width
    middle = size // 2 + choose(rng, (-1, 1)) * round(rng.uniform(0.1, 0.2) * size)
    left, right = image.crop((0, 0, size // 2, size)), image.crop((size // 2, 0, size, size))
    result = Image.new("RGB", image.size)
    result.paste(left.resize((middle, size), Image.Resampling.BILINEAR), (0, 0))
    result.paste(right.resize((size - middle, size), Image.Resampling.BILINEAR), (middle, 0))
    return result


def _disobey(edit: Edit, rng: Rng, size: int) -> Image.Image:
    """The source unchanged, or changed otherwise than asked, within the region."""
    if rng.random() < 0.4:
        return render(edit.references[0], size)
    if edit.region == "all":
        return render(wrong_scene(edit.target, rng)[1], size)
    if isinstance(edit.region, str):
        return render(wrong_scene(edit.target, rng, cells=(), background=True)[1], size)
    return render(wrong_scene(edit.target, rng, cells=edit.region, background=False)[1], size)


def _disturb(edit: Edit, rng: Rng, size: int) -> Image.Image:
    """The edit done, and something else changed as well."""
    if rng.random() < 0.3:
        return disturb(render(edit.target, size), rng)
    rows, cols = edit.target.grid
    every: list[Cell] = [(row, col) for row in range(rows) for col in range(cols)]
    if isinstance(edit.region, str):
        return render(wrong_scene(edit.target, rng, cells=every, background=False)[1], size)
    outside = [cell for cell in every if cell not in edit.region]
    return render(wrong_scene(edit.target, rng, cells=outside)[1], size)
