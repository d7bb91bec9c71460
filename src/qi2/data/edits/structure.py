"""Structure-aware manipulation: edge maps and colour layouts to photographs and back, zooming, turning, and painting beyond the rim."""

import numpy as np
from PIL import Image, ImageFilter

from qi2.data.edits.base import COLOURS, NOTHING, Change, Given, Operation, everywhere, pick, picture, say
from qi2.data.edits.cut import COLUMNS, ROWS, name

BLOCKS = 12  # colour blocks along the longer side of a layout
EDGE_SHARE = 0.12  # of the pixels that are drawn as edges
CANVAS = (128, 128, 128)
TO_EDGES = ("draw the edges of the photo, white on black", "turn the photo into an edge map", "show only the outlines, white on black")
FROM_EDGES = (
    "turn the edge map into a photo: {caption}",
    "paint a photo that follows these outlines: {caption}",
    "make a realistic photo from the line drawing: {caption}",
    "fill these edges with colour and texture: {caption}",
)
FROM_LAYOUT = (
    "turn the colour blocks into a detailed photo: {caption}",
    "make a photo with this arrangement of colours: {caption}",
    "use the blocks as the layout of a photo: {caption}",
    "replace the mosaic by a real photo: {caption}",
)
ZOOM = ("zoom in on the {part}", "enlarge the {part}", "show only the {part}, enlarged", "crop to the {part} and enlarge it")
TURNS = {
    "rotate the photo by 90 degrees clockwise": Image.Transpose.ROTATE_270,
    "rotate the photo by 90 degrees counterclockwise": Image.Transpose.ROTATE_90,
    "turn the photo upside down by rotating it by 180 degrees": Image.Transpose.ROTATE_180,
    "mirror the photo left to right": Image.Transpose.FLIP_LEFT_RIGHT,
    "flip the photo top to bottom": Image.Transpose.FLIP_TOP_BOTTOM,
}
POLITE = ("{turn}", "please {turn}", "edit: {turn}")
OUTPAINT = (
    "continue the photo into the grey border",
    "extend the photo beyond its edges",
    "fill the grey frame so that the photo goes on",
    "outpaint the picture",
)


def edge_map(image: Image.Image) -> Image.Image:
    """The strongest gradients of the slightly blurred luminance, thinned across their direction, white on black."""
    light = np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(max(1.0, min(image.size) / 256))), np.float32)
    down, right = np.gradient(light)
    strength = np.hypot(down, right)
    steep = np.abs(down) > np.abs(right)
    ridge = np.where(steep, _ridge(strength, 0), _ridge(strength, 1))
    shown = ridge & (strength > max(4.0, float(np.quantile(strength, 1 - EDGE_SHARE))))
    return picture(np.where(shown, 255, 0))


def _ridge(strength: np.ndarray, axis: int) -> np.ndarray:
    """Where a value is at least as large as both neighbours along the axis."""
    return np.asarray((strength >= np.roll(strength, 1, axis)) & (strength >= np.roll(strength, -1, axis)))


def colour_layout(image: Image.Image) -> Image.Image:
    """Mean colours of large blocks."""
    step = max(image.size) / BLOCKS
    small = image.resize((max(1, round(image.width / step)), max(1, round(image.height / step))), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def _to_edges(given: Given) -> Change:
    target = edge_map(given.photo)
    return Change((given.photo,), target, everywhere(target), say(TO_EDGES))


def _from_edges(given: Given) -> Change:
    return Change((edge_map(given.photo),), given.photo, everywhere(given.photo), say(FROM_EDGES, {"caption": given.caption}))


def _from_layout(given: Given) -> Change:
    return Change((colour_layout(given.photo),), given.photo, everywhere(given.photo), say(FROM_LAYOUT, {"caption": given.caption}))


def _zoom(given: Given) -> Change:
    row, col = int(given.rng.integers(3)), int(given.rng.integers(3))
    width, height = given.photo.width // 2, given.photo.height // 2
    left, top = col * (given.photo.width - width) // 2, row * (given.photo.height - height) // 2
    target = given.photo.crop((left, top, left + width, top + height))
    if row == 1 or col == 1:
        part = "middle" if row == col == 1 else f"middle of the {ROWS[row] if col == 1 else COLUMNS[col]} side"
    else:
        part = f"{name(row, col)} quarter"
    return Change((given.photo,), target, everywhere(target), say(ZOOM, {"part": part}))


def _turn(given: Given) -> Change:
    text = pick(given.rng, list(TURNS))
    target = given.photo.transpose(TURNS[text])
    return Change((given.photo,), target, everywhere(target), say(POLITE, {"turn": text}))


def _outpaint(given: Given) -> Change:
    keep = float(given.rng.uniform(0.55, 0.75))
    width, height = (round(side * keep) for side in given.photo.size)
    left, top = (int(room * given.rng.uniform(0.3, 0.7)) for room in (given.photo.width - width, given.photo.height - height))
    box = (left, top, left + width, top + height)
    spoilt = Image.new("RGB", given.photo.size, CANVAS)
    spoilt.paste(given.photo.crop(box), box)
    border = everywhere(given.photo)
    border.paste(0, box)
    return Change((spoilt,), given.photo, border, say(OUTPAINT))


OPERATIONS = (
    Operation("to_edges", "structure", _to_edges, shares=NOTHING),
    Operation("from_edges", "structure", _from_edges, captioned=True, shares=NOTHING),
    Operation("from_layout", "structure", _from_layout, captioned=True, shares=COLOURS, faint=True),
    Operation("zoom", "structure", _zoom, detail=2, shares=COLOURS),
    Operation("turn", "structure", _turn, shares=COLOURS),
    Operation("outpaint", "structure", _outpaint),
)
