"""Damaged pictures, the references of restoration (report 2.1): blurred, noisy, coarse, or with a hole.

What the damage looks like follows from the scene alone, so that a damaged picture is as reproducible as a clean one. So much is left
that the clean picture can be told from it.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from qi2.core.rng import numpy_rng
from qi2.data.world.palette import RGB
from qi2.data.world.render import cell_box
from qi2.data.world.sample import choose
from qi2.data.world.scene import Cell, Scene

BLUR = 0.045  # standard deviation, of the picture's side
NOISE = 28.0  # standard deviation, of 255; well below what curation rejects as pure noise
COARSE = 8  # pixels along a cell
HOLE: RGB = (95, 95, 95)


def damaged(image: Image.Image, scene: Scene) -> Image.Image:
    """The clean picture of a scene with the scene's damage."""
    return _DAMAGE[scene.damage](image, scene)


def hole_cell(scene: Scene) -> Cell:
    """The cell whose object or letter has a hole."""
    return _hole(scene)[0]


def _rng(scene: Scene) -> np.random.Generator:
    return numpy_rng(0, f"world-damage-{scene.to_json()}")


def _hole(scene: Scene) -> tuple[Cell, Cell]:
    """A cell that shows something, and which of its quarters is missing."""
    rng = _rng(scene)
    return choose(rng, sorted(scene.occupied())), (int(rng.integers(2)), int(rng.integers(2)))


def _blurred(image: Image.Image, scene: Scene) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(BLUR * image.width))


def _noisy(image: Image.Image, scene: Scene) -> Image.Image:
    noise = _rng(scene).normal(0.0, NOISE, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image, dtype=np.float32) + noise, 0, 255).astype(np.uint8))


def _coarse(image: Image.Image, scene: Scene) -> Image.Image:
    rows, cols = scene.grid
    return image.resize((COARSE * cols, COARSE * rows), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def _with_hole(image: Image.Image, scene: Scene) -> Image.Image:
    (row, col), (lower, right) = _hole(scene)
    rows, cols = scene.grid
    image.paste(HOLE, cell_box((2 * rows, 2 * cols), (2 * row + lower, 2 * col + right), image.width))
    return image


_DAMAGE: dict[str, Callable[[Image.Image, Scene], Image.Image]] = {"blur": _blurred, "noise": _noisy, "small": _coarse, "hole": _with_hole}
