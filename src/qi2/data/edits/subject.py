"""Subject consistency: the same subject in two crops of one photograph at different scales."""

from PIL import Image

from qi2.data.edits.base import COLOURS, NOTHING, Change, Given, Operation, everywhere, say

NEAR = 0.55  # sides of the close view, of the wide one's
CLOSER = (
    "show the subject in the middle of the image from closer",
    "show the same subject again, from a shorter distance",
    "move the camera towards the middle of the scene",
    "the same subject in a close view",
)
CLOSER_SECOND = (
    "show what is in the middle of the second image from closer",
    "a close view of the subject of the second image",
    "ignore the first image and move closer to the subject of the second",
    "make a picture of the second image's subject, from a shorter distance",
)
FARTHER = (
    "show the same subject from farther away",
    "move the camera back",
    "show the subject of the image with more of what is around it",
    "the same subject in a wide view",
)


def _views(photo: Image.Image, given: Given) -> tuple[Image.Image, Image.Image]:
    """A wide view (a random 75 to 100 % of the photograph) and a close view of its middle."""
    share = float(given.rng.uniform(0.75, 1))
    width, height = (round(side * share) for side in photo.size)
    left, top = (int(room * given.rng.random()) for room in (photo.width - width, photo.height - height))
    wide = photo.crop((left, top, left + width, top + height))
    inner = (round(width * NEAR), round(height * NEAR))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    return wide, wide.crop((left, top, left + inner[0], top + inner[1]))


def _closer(given: Given) -> Change:
    wide, close = _views(given.photo, given)
    return Change((wide,), close, everywhere(close), say(CLOSER))


def _closer_second(given: Given) -> Change | None:
    if given.other is None:
        return None
    wide, close = _views(given.photo, given)
    return Change((given.other, wide), close, everywhere(close), say(CLOSER_SECOND))


def _farther(given: Given) -> Change:
    wide, close = _views(given.photo, given)
    return Change((close,), wide, everywhere(wide), say(FARTHER))


OPERATIONS = (
    Operation("closer", "subject", _closer, detail=2, shares=COLOURS),
    Operation("closer_second", "subject", _closer_second, two=True, detail=2, shares=NOTHING),
    Operation("farther", "subject", _farther, detail=2, shares=COLOURS),
)
