"""What an editing operation gets, gives, and says about itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops

Rng = np.random.Generator
Templates = tuple[str, ...]
FAMILIES = (
    "attribute", "background", "style", "text", "restoration", "structure", "reference", "subject", "style_transfer", "composition",
)  # fmt: skip

LAYOUT, COLOURS, NOTHING = "layout", "colours", "nothing"


@dataclass(frozen=True)
class Given:
    """What an operation may use: a photograph (RGB), a second one or None, and the first one's caption, empty where unknown."""

    photo: Image.Image
    other: Image.Image | None
    caption: str
    rng: Rng


@dataclass(frozen=True)
class Change:
    """What an operation gives: RGB references and target, the change mask (L, the target's size, 255 = may change), and instructions."""

    references: tuple[Image.Image, ...]
    target: Image.Image
    mask: Image.Image
    instructions: tuple[str, ...]


@dataclass(frozen=True)
class PhotoEdit:
    """One editing pair: ``instructions`` are phrasings of the same request, and all are true of the target."""

    kind: str
    references: tuple[Image.Image, ...]
    target: Image.Image
    instructions: tuple[str, ...]
    mask: Image.Image


@dataclass(frozen=True)
class Operation:
    """One kind of edit.

    ``make`` gives None where the operation does not apply. ``two``: it needs a second photograph. ``captioned``: it needs a caption.
    ``detail``: it takes the photograph at up to so many times the final size, because it shows a part of it.
    ``shares``: what the first reference and the target have in common where everything may change (LAYOUT, COLOURS or NOTHING).
    ``faint``: the change may be too fine to show in a 32 px thumbnail.
    """

    kind: str
    family: str
    make: Callable[[Given], Change | None]
    two: bool = False
    captioned: bool = False
    detail: int = 1
    shares: str = LAYOUT
    faint: bool = False


def say(templates: Templates, slots: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Every template with its slots filled."""
    return tuple(template.format(**(slots or {})) for template in templates)


def everywhere(image: Image.Image) -> Image.Image:
    """The mask of an edit that may change everything."""
    return Image.new("L", image.size, 255)


def covered(alpha: Image.Image) -> Image.Image:
    """The mask of all pixels that a soft shape touches."""
    return alpha.point(lambda value: 255 if value else 0)


def uncovered(alpha: Image.Image) -> Image.Image:
    """The mask of all pixels that a soft shape does not cover fully."""
    return covered(ImageChops.invert(alpha))


def pick(rng: Rng, items: "list[str] | tuple[str, ...]") -> str:
    """One of the items."""
    return items[int(rng.integers(len(items)))]


def floats(image: Image.Image) -> np.ndarray:
    """float32 (H, W, 3), 0..255."""
    return np.asarray(image, dtype=np.float32)


def picture(values: np.ndarray) -> Image.Image:
    """The RGB picture of (H, W, 3) values, or of (H, W) grey values, rounded and clipped to 0..255."""
    rounded = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return Image.fromarray(rounded).convert("RGB")
