"""Compositional merging of two photographs: a cut-out is inserted, taken out again, or both share one canvas."""

from PIL import Image, ImageOps

from qi2.data.edits.base import NOTHING, Change, Given, Operation, covered, say
from qi2.data.edits.cut import Cut, cut_out, draw_cut, on_plain

INSET = (0.26, 0.36)  # sides of the inserted part, of the picture's
PART = (0.5, 0.9)  # sides of the part that is cut out of the second photograph, of the largest that fits
INSERT = (
    "put the object of the second image at the {place} of the first image",
    "insert the {shape} of the second image into the first image at the {place}",
    "paste what the second image shows into the first image, at the {place}",
    "combine both: the {shape} from the second image goes to the {place} of the first",
)
TAKE_OUT = (
    "remove the {shape} at the {place}",
    "take away the pasted {shape} at the {place}",
    "erase the {shape} that was pasted in at the {place} and restore what is behind it",
    "delete the {shape} at the {place}",
)
HALVES = (
    "left half: the middle of the first image; right half: the middle of the second image",
    "put the middle of the first image on the left and the middle of the second image on the right",
    "make a picture of two halves, the middle of the first image left and the middle of the second image right",
    "join both images side by side, each cut to its middle, the first one on the left",
)


def _inset(given: Given) -> tuple[Image.Image, Cut, Image.Image] | None:
    """The first photograph with a part of the second, where that part went, and the part alone on white."""
    if given.other is None:
        return None
    cut = draw_cut(given.rng, given.photo.size, INSET)
    width, height = cut.box[2] - cut.box[0], cut.box[3] - cut.box[1]
    part, alpha = cut_out(given.other, given.rng, cut.shape, PART, width / height)
    canvas = Image.new("RGB", given.photo.size)
    canvas.paste(part.resize((width, height), Image.Resampling.BOX), cut.box)
    return Image.composite(canvas, given.photo, cut.alpha), cut, on_plain(part, alpha)


def _insert(given: Given) -> Change | None:
    if (made := _inset(given)) is None:
        return None
    together, cut, part = made
    return Change((given.photo, part), together, covered(cut.alpha), say(INSERT, {"place": cut.place, "shape": cut.shape}))


def _take_out(given: Given) -> Change | None:
    if (made := _inset(given)) is None:
        return None
    together, cut, _ = made
    return Change((together,), given.photo, covered(cut.alpha), say(TAKE_OUT, {"place": cut.place, "shape": cut.shape}))


def _halves(given: Given) -> Change | None:
    if given.other is None:
        return None
    width, height = given.photo.size
    target = Image.new("RGB", given.photo.size)
    target.paste(ImageOps.fit(given.photo, (width // 2, height)), (0, 0))
    target.paste(ImageOps.fit(given.other, (width - width // 2, height)), (width // 2, 0))
    mask = Image.new("L", target.size, 255)
    return Change((given.photo, given.other), target, mask, say(HALVES))


OPERATIONS = (
    Operation("insert", "composition", _insert, two=True),
    Operation("take_out", "composition", _take_out, two=True),
    Operation("halves", "composition", _halves, two=True, shares=NOTHING),
)
