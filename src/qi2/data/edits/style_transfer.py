"""Style transfer across images: the first photograph takes the colours or the light of the second, exactly by mean and deviation."""

import numpy as np
from PIL import Image

from qi2.data.edits.base import Change, Given, Operation, everywhere, floats, say

MOST_GAIN = 2.5  # a flat photograph is not stretched further
COLOURS = (
    "give the first image the colours of the second",
    "transfer the colour mood of the second image to the first",
    "grade the first image like the second one",
    "show the scene of the first image in the colours of the second image",
)
LIGHT = (
    "give the first image the brightness and contrast of the second",
    "light the first image like the second one",
    "match the exposure of the first image to that of the second",
    "make the first image as bright and as contrasty as the second",
)


def matched(photo: Image.Image, other: Image.Image, channels: int) -> Image.Image:
    """The photograph with the mean and standard deviation of ``other`` in the first ``channels`` of luminance, blue and red (YCbCr)."""
    own, wanted = floats(photo.convert("YCbCr")).copy(), floats(other.convert("YCbCr"))
    for channel in range(channels):
        values, model = own[..., channel], wanted[..., channel]
        gain = min(float(model.std()) / max(float(values.std()), 1e-3), MOST_GAIN)
        own[..., channel] = (values - values.mean()) * gain + model.mean()
    return Image.fromarray(np.clip(np.rint(own), 0, 255).astype(np.uint8), "YCbCr").convert("RGB")


def _colours(given: Given) -> Change | None:
    if given.other is None:
        return None
    target = matched(given.photo, given.other, 3)
    return Change((given.photo, given.other), target, everywhere(target), say(COLOURS))


def _light(given: Given) -> Change | None:
    if given.other is None:
        return None
    target = matched(given.photo, given.other, 1)
    return Change((given.photo, given.other), target, everywhere(target), say(LIGHT))


OPERATIONS = (
    Operation("colours_of", "style_transfer", _colours, two=True),
    Operation("light_of", "style_transfer", _light, two=True),
)
