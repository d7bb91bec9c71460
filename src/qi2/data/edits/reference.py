"""Reference-based generation: a part cut out of the photograph is given, the whole photograph is the target."""

from qi2.data.edits.base import NOTHING, Change, Given, Operation, everywhere, pick, say
from qi2.data.edits.cut import SHAPES, cut_out, on_plain

PART = (0.45, 0.6)  # sides of the part, of the photograph's
PHRASES = (
    "generate a picture with the object of the image: {caption}",
    "make a new picture that contains what this image shows: {caption}",
    "use the cut-out as part of a whole picture: {caption}",
    "paint the scene that this piece belongs to: {caption}",
)


def _generate(given: Given) -> Change:
    part, alpha = cut_out(given.photo, given.rng, pick(given.rng, SHAPES), PART, given.photo.width / given.photo.height)
    return Change((on_plain(part, alpha),), given.photo, everywhere(given.photo), say(PHRASES, {"caption": given.caption}))


OPERATIONS = (Operation("from_part", "reference", _generate, captioned=True, detail=2, shares=NOTHING),)
