"""Attribute modification: the colour of one family of hues, the tone of the whole picture, black and white, and colour again."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

from qi2.data.edits.base import Change, Given, Operation, everywhere, floats, pick, picture, say

HUES = {"red": 0, "orange": 28, "yellow": 55, "green": 120, "turquoise": 180, "blue": 225, "purple": 280, "pink": 325}  # degrees
NEW_HUES = ("red", "green", "blue", "purple")  # look like their name when dark, too
LEAST_HUE_STEP = 70  # degrees between the old colour and the new one
SATURATED = (0.25, 0.4)  # below the first a pixel stays, from the second on it takes the new hue fully
SHARE = (0.03, 0.8)  # of the picture that the colour may cover
LEAST_COLOUR = 0.06  # mean of the largest channel less the smallest, of full scale, of a picture that is worth colourising
RECOLOUR = (
    "make the {old} parts {new}",
    "change the colour of everything {old} to {new}",
    "turn {old} into {new} and leave the other colours",
    "what is {old} should be {new}",
)
MONOCHROME = ("make it black and white", "turn the photo into a black and white photo", "remove the colours", "show it in shades of grey")
COLOURISE = ("colourise the photo", "give the black and white photo its colours", "turn this into a colour photo", "add natural colours")
Tone = Callable[[Image.Image, float], Image.Image]


def _recolour(given: Given) -> Change | None:
    hsv = floats(given.photo.convert("HSV")) / 255
    weights = _hue_weights(hsv)
    shares = {name: float(weight.mean()) for name, weight in weights.items()}
    old = max(shares, key=lambda name: shares[name])
    if not SHARE[0] <= shares[old] <= SHARE[1]:
        return None
    weight = weights[old]
    turns = {name: (HUES[name] - HUES[old]) % 360 for name in NEW_HUES}
    new = pick(given.rng, [name for name, turn in turns.items() if LEAST_HUE_STEP <= turn <= 360 - LEAST_HUE_STEP])
    turned = np.stack([(hsv[..., 0] + turns[new] / 360) % 1, hsv[..., 1], hsv[..., 2]], axis=-1)
    changed = floats(Image.fromarray((turned * 255).astype(np.uint8), "HSV").convert("RGB"))
    target = picture(floats(given.photo) * (1 - weight[..., None]) + changed * weight[..., None])
    brown = old == "orange" and float(hsv[..., 2][weight > 0.5].mean()) < 0.6
    mask = Image.fromarray(np.where(weight > 0, 255, 0).astype(np.uint8))
    return Change((given.photo,), target, mask, say(RECOLOUR, {"old": "brown" if brown else old, "new": new}))


def _hue_weights(hsv: np.ndarray) -> dict[str, np.ndarray]:
    """How much each pixel (H, W) belongs to each named hue: 1 near the hue and saturated, falling to 0 beyond half way to the next."""
    low, high = SATURATED
    vivid = np.clip((hsv[..., 1] - low) / (high - low), 0, 1) * np.clip((hsv[..., 2] - 0.12) / 0.1, 0, 1)
    distance = np.abs((hsv[..., :1] * 360 - np.array(list(HUES.values())) + 180) % 360 - 180)
    nearest = distance.argmin(-1)
    return {name: vivid * (nearest == index) for index, name in enumerate(HUES)}


def _warmth(image: Image.Image, amount: float) -> Image.Image:
    """White balance: amounts above 1 towards orange, below 1 towards blue."""
    return picture(floats(image) * np.array([amount, 1.0, 1 / amount]))


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Tone:
    return lambda image, amount: kind(image).enhance(amount)


TONES: dict[str, tuple[Tone, float, float]] = {  # how, and the range of the amount
    "brighter": (_enhance(ImageEnhance.Brightness), 1.3, 1.7),
    "darker": (_enhance(ImageEnhance.Brightness), 0.4, 0.7),
    "richer in contrast": (_enhance(ImageEnhance.Contrast), 1.4, 1.9),
    "flatter in contrast": (_enhance(ImageEnhance.Contrast), 0.35, 0.6),
    "more colourful": (_enhance(ImageEnhance.Color), 1.6, 2.4),
    "less colourful": (_enhance(ImageEnhance.Color), 0.2, 0.5),
    "warmer": (_warmth, 1.15, 1.35),
    "cooler": (_warmth, 0.74, 0.87),
}
TONE = ("make it {tone}", "make the photo {tone}", "the picture should be {tone}", "edit the photo so that it is {tone}")


def _tone(given: Given) -> Change:
    name = pick(given.rng, list(TONES))
    how, low, high = TONES[name]
    target = how(given.photo, float(given.rng.uniform(low, high)))
    return Change((given.photo,), target, everywhere(target), say(TONE, {"tone": name}))


def grey(image: Image.Image) -> Image.Image:
    """The picture's luminance, as RGB."""
    return image.convert("L").convert("RGB")


def _colourful(image: Image.Image) -> bool:
    return float(np.ptp(floats(image), axis=-1).mean()) / 255 >= LEAST_COLOUR


def _monochrome(given: Given) -> Change | None:
    target = grey(given.photo)
    return Change((given.photo,), target, everywhere(target), say(MONOCHROME)) if _colourful(given.photo) else None


def _colourise(given: Given) -> Change | None:
    return Change((grey(given.photo),), given.photo, everywhere(given.photo), say(COLOURISE)) if _colourful(given.photo) else None


OPERATIONS = (
    Operation("recolour", "attribute", _recolour),
    Operation("tone", "attribute", _tone),
    Operation("monochrome", "attribute", _monochrome),
    Operation("colourise", "attribute", _colourise),
)
