"""All operations by kind. A new one is a function and an ``Operation`` in its family's file; a new family is one line here."""

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.edits import attribute, background, composition, reference, restoration, structure, style, style_transfer, subject, text
from qi2.data.edits.base import Change, Given, Operation, PhotoEdit, floats

LEAST_SIDE = 64  # px of the photographs' shorter sides
LEAST_CHANGE = 2.0  # of 255: mean difference inside the mask below which an edit counts as none

OPERATIONS: dict[str, Operation] = {
    operation.kind: operation
    for family in (attribute, background, style, text, restoration, structure, reference, subject, style_transfer, composition)
    for operation in family.OPERATIONS
}


def make_edit(photo: Image.Image, other: Image.Image | None, caption: str, rng: np.random.Generator, kind: str) -> PhotoEdit | None:
    """An edit of a kind from RGB photographs, or None where the kind does not apply to them (too small, too grey, nothing to see).

    Raises QI2Error for an unknown kind.
    """
    if kind not in OPERATIONS:
        raise QI2Error(f"no photo edit {kind!r}; kinds are {', '.join(OPERATIONS)}")
    operation = OPERATIONS[kind]
    if min(photo.size) < LEAST_SIDE or (operation.captioned and not caption):
        return None
    if operation.two and (other is None or min(other.size) < LEAST_SIDE):
        return None
    made = operation.make(Given(photo, other, caption, rng))
    if made is None or not _changes(made):
        return None
    return PhotoEdit(kind, made.references, made.target, made.instructions, made.mask)


def _changes(made: Change) -> bool:
    """Whether the first reference and the target differ visibly where they may; pictures of different sizes do."""
    first, inside = made.references[0], np.asarray(made.mask) > 0
    if not inside.any():
        return False
    return first.size != made.target.size or float(np.abs(floats(first) - floats(made.target))[inside].mean()) >= LEAST_CHANGE
