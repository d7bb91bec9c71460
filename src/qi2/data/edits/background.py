"""Background replacement: everything around a subject with a known outline gives way to another photograph, a colour, or a blur."""

from PIL import Image, ImageFilter, ImageOps

from qi2.data.edits.base import NOTHING, Change, Given, Operation, pick, say, uncovered
from qi2.data.edits.cut import draw_cut

SUBJECT = (0.45, 0.7)  # sides of the subject, of the picture's
COLOURS = ("white", "black", "red", "yellow", "green", "blue", "orange", "grey")
PHOTO = (
    "keep the {shape} in the centre of the first image and replace everything around it by the second image",
    "put the second image behind the {shape} in the centre of the first image",
    "replace the background of the central {shape} of the first image by the second image",
    "use the second image as the new background; only the {shape} in the centre of the first image stays",
)
PLAIN = (
    "keep the {shape} in the centre and make everything around it {colour}",
    "replace the background of the central {shape} by plain {colour}",
    "cut out the {shape} in the centre and put it on a plain {colour} background",
    "everything outside the {shape} in the centre should be {colour}",
)
BLUR = (
    "blur everything around the {shape} in the centre",
    "keep the {shape} in the centre sharp and blur the rest",
    "blur the background and leave the central {shape} as it is",
    "put everything outside the {shape} in the centre out of focus",
)


def _photo(given: Given) -> Change | None:
    if given.other is None:
        return None
    cut = draw_cut(given.rng, given.photo.size, SUBJECT, centred=True)
    behind = ImageOps.fit(given.other, given.photo.size)
    target = Image.composite(given.photo, behind, cut.alpha)
    return Change((given.photo, given.other), target, uncovered(cut.alpha), say(PHOTO, {"shape": cut.shape}))


def _plain(given: Given) -> Change:
    cut = draw_cut(given.rng, given.photo.size, SUBJECT, centred=True)
    colour = pick(given.rng, COLOURS)
    target = Image.composite(given.photo, Image.new("RGB", given.photo.size, colour), cut.alpha)
    return Change((given.photo,), target, uncovered(cut.alpha), say(PLAIN, {"shape": cut.shape, "colour": colour}))


def _blur(given: Given) -> Change:
    cut = draw_cut(given.rng, given.photo.size, SUBJECT, centred=True)
    blurred = given.photo.filter(ImageFilter.GaussianBlur(min(given.photo.size) / given.rng.uniform(30, 50)))
    target = Image.composite(given.photo, blurred, cut.alpha)
    return Change((given.photo,), target, uncovered(cut.alpha), say(BLUR, {"shape": cut.shape}))


OPERATIONS = (
    Operation("backdrop_photo", "background", _photo, two=True, shares=NOTHING),
    Operation("backdrop_plain", "background", _plain, shares=NOTHING),
    Operation("backdrop_blur", "background", _blur, faint=True),
)
