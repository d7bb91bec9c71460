"""A scene of the procedural world, as `Scene.to_dict` writes it: exact at every size."""

from typing import Any

from PIL import Image

from qi2.data.world.render import render
from qi2.data.world.scene import Scene


def draw(values: Any, size: int) -> Image.Image:
    """The scene."""
    return render(Scene.from_dict(values), size)
