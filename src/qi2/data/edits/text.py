"""Text editing: a word on a plate is added to a photograph, replaced by another, recoloured, or removed."""

from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from qi2.data.edits.base import Change, Given, Operation, Rng, pick, say
from qi2.data.edits.cut import Box
from qi2.data.world.render import draw_text

WORDS = (
    "Open", "Welcome", "Garden", "Coffee", "Winter", "Market", "Island", "Museum", "Sunday", "Harbour", "Bakery", "Station", "Library",
    "Autumn", "Exit", "Hello", "Theatre", "Bridge", "Orchard", "Planet", "Summer", "Window", "Cinema", "Forest", "Lemon", "Number 7",
    "Sale", "Closed", "North", "Ticket", "Please wait", "Thank you",
)  # fmt: skip
PLATES = {"white": ("black", "red", "blue"), "black": ("white", "yellow"), "yellow": ("black", "blue"), "blue": ("white", "yellow")}
INKS = {"black": (15, 15, 15), "white": (250, 250, 250), "red": (200, 20, 20), "blue": (20, 50, 170), "yellow": (250, 215, 30)}
HEIGHT = (0.075, 0.12)  # of capitals, of the shorter side
LEAST_HEIGHT = 9.0  # px: below, letters are hard to read
ADD = (
    'add the text "{new}" in {ink} letters on a {plate} plate at the {place}',
    'write "{new}" in {ink} on a {plate} plate at the {place}',
    'put a {plate} plate at the {place} that says "{new}" in {ink}',
    'at the {place} add a {plate} plate with the word "{new}" in {ink} letters',
)
REPLACE = (
    'replace the text "{old}" with "{new}"',
    'change "{old}" to "{new}"',
    'the plate should say "{new}" instead of "{old}"',
    'rewrite the text on the plate as "{new}"',
)
REMOVE = (
    'remove the text "{old}" and its plate',
    'take away the plate that says "{old}"',
    'erase the {plate} plate with "{old}" at the {place}',
    "remove the plate with writing from the photo",
)
RECOLOUR = (
    'make the letters of "{old}" {ink}',
    "change the colour of the text to {ink}",
    'write "{old}" in {ink} instead',
    "the letters on the plate should be {ink}",
)
PLACES = {"top": 0.04, "middle": 0.5, "bottom": 0.96}


@dataclass(frozen=True)
class _Plate:
    text: str
    plate: str
    ink: str
    place: str
    height: float  # px of capitals
    box: Box

    def on(self, photo: Image.Image) -> Image.Image:
        """The photograph with the plate."""
        image = photo.copy()
        image.paste(INKS[self.plate], self.box)
        letters = Image.new("L", (self.box[2] - self.box[0], self.box[3] - self.box[1]), 0)
        draw_text(ImageDraw.Draw(letters), self.text, (letters.width / 2, letters.height / 2), self.height, 0.0)
        image.paste(INKS[self.ink], self.box, letters)
        return image

    def mask(self, size: tuple[int, int]) -> Image.Image:
        """All of the plate."""
        mask = Image.new("L", size, 0)
        mask.paste(255, self.box)
        return mask

    def slots(self, new: str = "") -> dict[str, str]:
        return {"old": self.text, "new": new or self.text, "ink": self.ink, "plate": self.plate, "place": self.place}


def _plate(size: tuple[int, int], rng: Rng, *texts: str) -> _Plate | None:
    """A plate that holds the longest of the texts; None where legible letters do not fit."""
    height = max(LEAST_HEIGHT, min(size) * float(rng.uniform(*HEIGHT)))
    widest = max(len(text) for text in texts) * height
    height *= min(1.0, 0.85 * size[0] / widest)
    if height < LEAST_HEIGHT:
        return None
    width, tall = round(max(len(text) for text in texts) * height * 1.05 + height), round(2.2 * height)
    place, plate = pick(rng, list(PLACES)), pick(rng, list(PLATES))
    left, top = (size[0] - width) // 2, round((size[1] - tall) * PLACES[place])
    return _Plate(texts[0], plate, pick(rng, PLATES[plate]), place, height, (left, top, left + width, top + tall))


def _words(rng: Rng) -> tuple[str, str]:
    first, second = rng.choice(len(WORDS), 2, replace=False)
    return WORDS[int(first)], WORDS[int(second)]


def _add(given: Given) -> Change | None:
    plate = _plate(given.photo.size, given.rng, _words(given.rng)[0])
    if plate is None:
        return None
    return Change((given.photo,), plate.on(given.photo), plate.mask(given.photo.size), say(ADD, plate.slots()))


def _replace(given: Given) -> Change | None:
    old, new = _words(given.rng)
    plate = _plate(given.photo.size, given.rng, old, new)
    if plate is None:
        return None
    target = replace(plate, text=new).on(given.photo)
    return Change((plate.on(given.photo),), target, plate.mask(given.photo.size), say(REPLACE, plate.slots(new)))


def _remove(given: Given) -> Change | None:
    plate = _plate(given.photo.size, given.rng, _words(given.rng)[0])
    if plate is None:
        return None
    return Change((plate.on(given.photo),), given.photo, plate.mask(given.photo.size), say(REMOVE, plate.slots()))


def _recolour(given: Given) -> Change | None:
    plate = _plate(given.photo.size, given.rng, _words(given.rng)[0])
    if plate is None:
        return None
    ink = pick(given.rng, [ink for ink in PLATES[plate.plate] if ink != plate.ink])
    changed = replace(plate, ink=ink)
    return Change((plate.on(given.photo),), changed.on(given.photo), plate.mask(given.photo.size), say(RECOLOUR, changed.slots()))


OPERATIONS = (
    Operation("text_add", "text", _add),
    Operation("text_replace", "text", _replace),
    Operation("text_remove", "text", _remove),
    Operation("text_recolour", "text", _recolour),
)
