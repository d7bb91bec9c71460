"""Who draws references, by name: values of a row and a size in pixels to an RGB picture. A drawer is one file and one line here."""

from collections.abc import Callable
from typing import Any

from PIL import Image

from qi2.evaluation.suites.references import card, photo, world

DRAWERS: dict[str, Callable[[Any, int], Image.Image]] = {"world": world.draw, "photo": photo.draw, "card": card.draw}
