"""Pictures that a command writes."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image


def save(images: Sequence[Image.Image], out: Path) -> None:
    """One picture to ``out``, several to ``out`` with a number each; says where."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        path = out if len(images) == 1 else out.with_stem(f"{out.stem}_{i}")
        image.save(path)
        print(path)
