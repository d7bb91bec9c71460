"""The world's richer pictures: faces, pages of text and textured backgrounds. Drawn for the VAE, curation and larger scales."""

from functools import lru_cache

from PIL import Image, ImageDraw

from qi2.data.world.palette import BACKGROUNDS, COLORS, HAIR, INK, RGB, SKIN
from qi2.data.world.render import SUPERSAMPLE, draw_text
from qi2.data.world.scene import Layout, Portrait, Scene

MOUTH: RGB = (170, 40, 50)
EYE: RGB = (25, 25, 35)
FRAME: RGB = (60, 60, 160)
TITLE_HEIGHT = 0.13  # of the page
LINE_HEIGHT = 0.09
_SHADE = 0.86


def draw_texture(image: Image.Image, scene: Scene) -> None:
    """Stripes, dots or a gradient in a darker shade of the background colour."""
    shade = tuple(round(_SHADE * value) for value in BACKGROUNDS[scene.background])
    image.paste(shade, (0, 0, *image.size), _texture_mask(scene.texture, image.width))


@lru_cache(maxsize=64)
def _texture_mask(texture: str, size: int) -> Image.Image:
    if texture == "gradient":
        return Image.linear_gradient("L").resize((size, size), Image.Resampling.BILINEAR)
    canvas = Image.new("L", (size * 4, size * 4), 0)
    draw = ImageDraw.Draw(canvas)
    step = size * 4 / 12
    for i in range(12):
        if texture == "stripes":
            draw.rectangle((0, i * step, size * 4, (i + 0.5) * step), fill=255)
        else:
            for j in range(12):
                x, y = (j + 0.5) * step, (i + 0.5) * step
                draw.ellipse((x - step / 4, y - step / 4, x + step / 4, y + step / 4), fill=255)
    return canvas.resize((size, size), Image.Resampling.BOX)


def draw_portrait(image: Image.Image, face: Portrait, offsets: dict[str, tuple[float, float]] | None = None) -> None:
    """A frontal face; ``offsets`` moves features (fractions of the size) and is used to make faces that are wrong.

    Features are hair, shirt, head, left_eye, right_eye, glasses, nose and mouth; an offset of (2, 2) removes one.
    """
    moved = offsets or {}
    side = image.width * 4
    canvas = image.resize((side, side), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(canvas)
    for feature, paint in _FEATURES:
        dx, dy = moved.get(feature, (0.0, 0.0))
        paint(_Pen(draw, side, dx, dy), face)
    image.paste(canvas.resize(image.size, Image.Resampling.BOX))


class _Pen:
    """Draws in coordinates 0..1 of the picture, shifted by an offset."""

    def __init__(self, draw: ImageDraw.ImageDraw, side: int, dx: float, dy: float) -> None:
        self.draw, self.side, self.dx, self.dy = draw, side, dx, dy

    def box(self, x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
        """Pixel box around a centre."""
        x, y = x + self.dx, y + self.dy
        return (x - rx) * self.side, (y - ry) * self.side, (x + rx) * self.side, (y + ry) * self.side

    def ellipse(self, color: RGB, x: float, y: float, rx: float, ry: float) -> None:
        self.draw.ellipse(self.box(x, y, rx, ry), fill=color)

    def ring(self, color: RGB, x: float, y: float, r: float, width: float) -> None:
        self.draw.ellipse(self.box(x, y, r, r), outline=color, width=round(width * self.side))

    def bar(self, color: RGB, x: float, y: float, rx: float, ry: float) -> None:
        self.draw.rectangle(self.box(x, y, rx, ry), fill=color)

    def arc(self, color: RGB, x: float, y: float, rx: float, ry: float, start: float, end: float, width: float) -> None:
        self.draw.arc(self.box(x, y, rx, ry), start, end, fill=color, width=round(width * self.side))


def _darker(color: RGB) -> RGB:
    return (color[0] * 3 // 4, color[1] * 3 // 4, color[2] * 3 // 4)


def _hair(pen: _Pen, face: Portrait) -> None:
    pen.ellipse(HAIR[face.hair], 0.5, 0.37, 0.37, 0.34)
    pen.bar(HAIR[face.hair], 0.5, 0.52, 0.37, 0.15)


def _shirt(pen: _Pen, face: Portrait) -> None:
    pen.ellipse(COLORS[face.shirt], 0.5, 1.06, 0.46, 0.24)


def _head(pen: _Pen, face: Portrait) -> None:
    pen.bar(_darker(SKIN[face.skin]), 0.5, 0.81, 0.1, 0.08)
    pen.ellipse(SKIN[face.skin], 0.5, 0.49, 0.28, 0.33)


def _left_eye(pen: _Pen, face: Portrait) -> None:
    pen.ellipse((255, 255, 255), 0.38, 0.45, 0.065, 0.045)
    pen.ellipse(EYE, 0.38, 0.45, 0.032, 0.04)


def _right_eye(pen: _Pen, face: Portrait) -> None:
    pen.ellipse((255, 255, 255), 0.62, 0.45, 0.065, 0.045)
    pen.ellipse(EYE, 0.62, 0.45, 0.032, 0.04)


def _glasses(pen: _Pen, face: Portrait) -> None:
    if face.glasses:
        pen.ring(FRAME, 0.38, 0.45, 0.105, 0.028)
        pen.ring(FRAME, 0.62, 0.45, 0.105, 0.028)
        pen.bar(FRAME, 0.5, 0.45, 0.03, 0.013)


def _nose(pen: _Pen, face: Portrait) -> None:
    pen.ellipse(_darker(SKIN[face.skin]), 0.5, 0.56, 0.03, 0.045)


def _mouth(pen: _Pen, face: Portrait) -> None:
    if face.expression == "smiling":
        pen.arc(MOUTH, 0.5, 0.6, 0.13, 0.11, 15, 165, 0.04)
    elif face.expression == "sad":
        pen.arc(MOUTH, 0.5, 0.77, 0.13, 0.11, 200, 340, 0.04)
    else:
        pen.bar(MOUTH, 0.5, 0.69, 0.1, 0.02)


_FEATURES = (
    ("hair", _hair),
    ("shirt", _shirt),
    ("head", _head),
    ("left_eye", _left_eye),
    ("right_eye", _right_eye),
    ("glasses", _glasses),
    ("nose", _nose),
    ("mouth", _mouth),
)


def draw_layout(image: Image.Image, layout: Layout) -> None:
    """A title with a rule under it, then the lines, all centred."""
    for index in range(1 + len(layout.lines)):
        text = layout.title if index == 0 else layout.lines[index - 1]
        image.paste(INK, (0, line_top(index, image.height)), line_mask(text, index == 0, image.width))
    y, thick = round(0.3 * image.height), max(1, round(0.02 * image.height))
    image.paste(INK, (round(0.12 * image.width), y, round(0.88 * image.width), y + thick))


def line_top(index: int, size: int) -> int:
    """First pixel row of the title (index 0) or of a line (1..3)."""
    return round(size * (0.06 if index == 0 else 0.37 + 0.2 * (index - 1)))


@lru_cache(maxsize=512)
def line_mask(text: str, title: bool, size: int) -> Image.Image:
    """Coverage (mode L) of one line of text over the width of the page."""
    height = max(1, round(0.2 * size))
    canvas = Image.new("L", (size * SUPERSAMPLE, height * SUPERSAMPLE), 0)
    cap = (TITLE_HEIGHT if title else LINE_HEIGHT) * canvas.width
    draw_text(ImageDraw.Draw(canvas), text, (canvas.width / 2, canvas.height / 2), cap, cap * (0.08 if title else 0.04))
    return canvas.resize((size, height), Image.Resampling.BOX)
