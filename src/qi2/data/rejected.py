"""Pictures of what curation rejected and why, for the run's report and for a person's eyes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from qi2.core.rng import key
from qi2.data.filters.broken import BrokenImageError, decode
from qi2.data.shards import read_bytes

if TYPE_CHECKING:
    import pandas as pd

SIDE, GAP = 192, 8  # px of a picture on its card, and between pictures
LINE, LINES, COLUMNS = 14, 4, 31  # text under it
SHOWN = {
    "broken": ("broken",),
    "resolution": ("short_side", "long_side"),
    "exact_duplicate": ("exact_duplicate_of",),
    "near_duplicate": ("near_duplicate_of",),
    "semantic_duplicate": ("semantic_duplicate_of",),
    "nsfw": ("nsfw",),
    "rotation": ("orientation",),
    "upright": ("content_rotation", "upright"),
    "entropy": ("entropy", "difference_entropy"),
    "clip": ("clip",),
    "token_length": ("tokens_min", "tokens_max"),
    "pair_mask": ("region",),
    "pair_unchanged": ("pair_change",),
    "pair_spill": ("pair_outside",),
    "pair_unrelated": ("pair_similarity",),
    "quality": ("sharpness",),
    "aesthetic": ("aesthetic",),
    "compression": ("jpeg_quality", "blockiness"),
}


def save_examples(table: "pd.DataFrame", reason: np.ndarray, raw: Path, folder: Path, count: int, seed: int) -> list[Path]:
    """Write ``REASON_k.png``, at most ``count`` per reason, drawn at random but fixed by the seed; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    by_id = table.set_index("id", drop=False)
    files: list[Path] = []
    for name in sorted({name for name in reason if name is not None}):
        rows = sorted(np.flatnonzero(reason == name), key=lambda row: key(seed, f"rejected-{table['id'].iloc[row]}"))
        for k, row in enumerate(rows[:count]):
            files.append(folder / f"{name}_{k}.png")
            card(by_id, table.iloc[row], str(name), raw).save(files[-1])
    return files


def card(by_id: "pd.DataFrame", row: "pd.Series", reason: str, raw: Path) -> Image.Image:
    """The picture (for duplicates with the kept one at its right, for pairs with the references) over reason, scores, caption."""
    others = [row.get(f"{reason}_of")] if reason.endswith("duplicate") else list(row["references"])
    pictures = [_picture(row, raw)] + [_picture(by_id.loc[name], raw) for name in others if name in by_id.index]
    sheet = Image.new("RGB", ((SIDE + GAP) * len(pictures) - GAP, SIDE + LINE * LINES + 4), "white")
    for column, picture in enumerate(pictures):
        sheet.paste(picture, ((SIDE + GAP) * column, 0))
    draw = ImageDraw.Draw(sheet)
    for line, text in enumerate(_lines(row, reason, COLUMNS * len(pictures))):
        draw.text((3, SIDE + 2 + LINE * line), text, fill="black")
    return sheet


def _picture(row: "pd.Series", raw: Path) -> Image.Image:
    """Fitted into the square on gray; a card for a broken file."""
    square = Image.new("RGB", (SIDE, SIDE), (225, 225, 225))
    try:
        image = decode(read_bytes(raw, {name: row[name] for name in ("shard", "offset", "length")})).image
    except BrokenImageError:
        ImageDraw.Draw(square).text((SIDE // 2, SIDE // 2), "cannot be read", fill=(160, 0, 0), anchor="mm")
        return square
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)
    square.paste(image, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return square


def _lines(row: "pd.Series", reason: str, columns: int) -> list[str]:
    scores = ", ".join(f"{name} {_short(row.get(name))}" for name in SHOWN.get(reason, ()))
    captions = list(row["captions"])
    caption = str(captions[0]) if captions else ""
    return [reason, scores[:columns], caption[:columns], caption[columns : 2 * columns]]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
