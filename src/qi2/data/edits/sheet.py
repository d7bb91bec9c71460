"""A sheet of edits made from photographs, for people to look at: references, target, mask and instruction, one edit a line."""

from collections.abc import Sequence
from functools import partial
from textwrap import wrap

from PIL import Image, ImageDraw

from qi2.core.rng import numpy_rng
from qi2.data.edits.base import PhotoEdit
from qi2.data.edits.registry import OPERATIONS, make_edit
from qi2.data.edits.rows import Photograph, shrunk
from qi2.data.photos import PHOTOS, load

GAP, TEXT = 6, 300  # px


def bundled(split: str = "train") -> list[Photograph]:
    """The photographs that the installed packages ship, of one split."""
    return [Photograph(photo.file, partial(load, photo), photo.captions[0], photo.licence, photo.file, split) for photo in PHOTOS if photo.split == split]


def sheet(photos: Sequence[Photograph], kinds: Sequence[str] = (), side: int = 160, seed: int = 0) -> Image.Image:
    """One edit of every kind (all by default), of the photographs in turn; kinds that apply to none of them are left out."""
    made = [edit for kind in kinds or OPERATIONS if (edit := _first(photos, kind, side, seed))]
    page = Image.new("RGB", (TEXT + 4 * (side + GAP), max(1, len(made)) * (side + GAP)), "white")
    draw = ImageDraw.Draw(page)
    for row, edit in enumerate(made):
        y = row * (side + GAP)
        draw.text((GAP, y), f"{OPERATIONS[edit.kind].family}: {edit.kind}\n\n" + "\n".join(wrap(edit.instructions[0], 45)), fill="black")
        pictures = [*(edit.references if len(edit.references) > 1 else (edit.references[0], None)), edit.target, edit.mask]
        for column, picture in enumerate(pictures):
            if picture is not None:
                page.paste(shrunk(picture.convert("RGB"), side), (TEXT + column * (side + GAP), y))
    return page


def _first(photos: Sequence[Photograph], kind: str, side: int, seed: int) -> PhotoEdit | None:
    for index, photo in enumerate(photos):
        pictures = [shrunk(item.load(), 2 * side) for item in (photo, photos[(index + 1) % len(photos)])]
        edit = make_edit(pictures[0], pictures[1], photo.caption, numpy_rng(seed, f"photo-edit-sheet-{kind}", index), kind)
        if edit is not None:
            return edit
    return None
