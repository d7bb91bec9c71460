"""A sheet of held-out judgements, for people to look at: source, pictures, the prompt, the label and the scores."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from qi2.models.pixels import to_images
from qi2.rewards.data import Pool

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
TILE, GAP, LINE, COLUMNS = 128, 6, 14, 4


@dataclass(frozen=True)
class Strip:
    """The shown judgements of one reward, the first of ``count``, with calibrated scores (N, R)."""

    name: str
    accuracy: float
    count: int
    pool: Pool
    scores: Tensor

    @classmethod
    def of(cls, name: str, accuracy: float, pool: Pool, scores: Tensor) -> "Strip":
        """What a sheet shows of a pool: a few pairs, because strips come from other processes."""
        shown = min(COLUMNS, len(pool))
        return cls(name, accuracy, len(pool), pool.part(range(shown)), scores[:shown].clone())


def pair_sheet(strips: Sequence[Strip], shown: int = COLUMNS) -> Image.Image:
    """One row per reward. Scores in red stand against the label: 1 where the first picture is preferred, -1 the second, 0 a tie."""
    font = ImageFont.load_default(12)
    cell = 3 * TILE + 4 * GAP
    height = TILE + 4 * LINE + 2 * GAP
    page = Image.new("RGB", (shown * cell + GAP, len(strips) * (height + LINE + GAP) + GAP), (50, 50, 50))
    draw = ImageDraw.Draw(page)
    for row, strip in enumerate(strips):
        top = GAP + row * (height + LINE + GAP)
        title = f"{strip.name}: {strip.accuracy:.3f} of {strip.count} held-out pairs right"
        draw.text((GAP, top), title, "white", font=font)
        for column in range(min(shown, len(strip.pool))):
            _show(page, draw, font, strip, column, (GAP + column * cell, top + LINE + GAP))
    return page


def _show(page: Image.Image, draw: ImageDraw.ImageDraw, font: Font, strip: Strip, index: int, place: tuple[int, int]) -> None:
    x, y = place
    pool, scores, label = strip.pool, strip.scores[index].tolist(), float(strip.pool.labels[index])
    wrong = pool.paired and label * (scores[0] - scores[1]) < 0
    if pool.sources is not None:
        page.paste(_picture(pool.sources[index]), (x, y))
        draw.text((x, y + TILE), "source", "white", font=font)
    for k, (score, picture) in enumerate(zip(scores, pool.pictures[index], strict=True), 1):
        left = x + k * (TILE + GAP)
        page.paste(_picture(picture), (left, y))
        said = f"label {label:+g}: {score:+.2f}" if k == 1 else f"{score:+.2f}"
        draw.text((left, y + TILE), said, (255, 110, 110) if wrong else "white", font=font)
    text = "\n".join(textwrap.wrap(pool.texts[index], 58)[:2])
    draw.multiline_text((x, y + TILE + LINE), text, "white", font=font, spacing=1)


def _picture(pixels: Tensor) -> Image.Image:
    return to_images(pixels[None])[0].resize((TILE, TILE), Image.Resampling.NEAREST)
