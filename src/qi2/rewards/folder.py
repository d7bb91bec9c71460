"""What ``qi2 reward score`` does: scores of any images by the rewards that can judge them."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.data.sources.folder import images as images_below
from qi2.rewards.config import NEEDS
from qi2.rewards.score import RewardModels
from qi2.rewards.table import read_rows

CHUNK = 256  # pictures that are open at once
Row = dict[str, str | float | None]


@dataclass(frozen=True)
class Item:
    """One image file with what it was asked to show, and the files that it edits."""

    image: Path
    prompt: str | None
    sources: tuple[Path, ...] = ()


def find_items(paths: Sequence[Path], prompt: str | None, prompts: Path | None, source: Path | None) -> list[Item]:
    """All images of files and folders. Their prompt is ``prompt``, else that of the table, else the first line of the .txt beside an image.

    The table ``prompts`` has image (its path from the table's folder, or its name), prompt and, for an edit, source. Raises QI2Error where
    there is no image, or one that the table does not name.
    """
    files = [file for path in paths for file in (images_below(path) if path.is_dir() else [path])]
    if missing := [file for file in files if not file.is_file()]:
        raise QI2Error(f"{missing[0]} does not exist; give image files, or folders of them")
    if not files:
        raise QI2Error(f"no image below {', '.join(map(str, paths))}; give image files, or folders of them")
    edited = () if source is None else (source,)
    if prompts is None:
        return [Item(file, prompt if prompt is not None else _beside(file), edited) for file in files]
    known = _table(prompts)
    unknown = [file for file in files if file.resolve() not in known and Path(file.name) not in known]
    if unknown:
        raise QI2Error(f"{prompts} has no row for {unknown[0]} and {len(unknown) - 1} others; its column image holds paths from its folder, or names")
    found = [(file, known.get(file.resolve()) or known[Path(file.name)]) for file in files]
    return [Item(file, prompt if prompt is not None else text, edited or sources) for file, (text, sources) in found]


def _table(path: Path) -> dict[Path, tuple[str | None, tuple[Path, ...]]]:
    known: dict[Path, tuple[str | None, tuple[Path, ...]]] = {}
    for name, values in read_rows(path):
        image, source = values.get("image"), values.get("source")
        if not isinstance(image, str) or not image:
            raise QI2Error(f'{name}: image is {image!r}; write for example {{"image": "a.png", "prompt": "a red cube"}}')
        sources = [source] if isinstance(source, str) and source else source or []
        row = values.get("prompt"), tuple(path.parent / item for item in sources)
        known |= {(path.parent / image).resolve(): row, Path(Path(image).name): row}
    return known


def _beside(image: Path) -> str | None:
    text = image.with_suffix(".txt")
    return next(iter(text.read_text(encoding="utf-8").splitlines()), None) if text.is_file() else None


def choose(items: Sequence[Item], wanted: Sequence[str]) -> list[str]:
    """The wanted rewards, or all that can judge an item at least. Raises QI2Error where a wanted one cannot judge one."""
    if not wanted:
        return [name for name in NEEDS if not all(_lacks(name, item) for item in items)]
    for name in wanted:
        if name not in NEEDS:
            raise QI2Error(f"no reward {name!r}; choose from {', '.join(NEEDS)}")
        if lacking := [item for item in items if _lacks(name, item)]:
            raise QI2Error(f"the {name} reward cannot judge {lacking[0].image}: {_lacks(name, lacking[0])}")
    return list(wanted)


def _lacks(name: str, item: Item) -> str:
    """What a reward would need to judge an item; empty where it can."""
    needs = NEEDS[name]
    if needs.prompt and item.prompt is None:
        return "it has no prompt; give --prompt, --prompts or a .txt beside it"
    if needs.source and not item.sources:
        return "it is no edit; give --source, or a column source in the table of prompts"
    return "it is an edit, whose prompt does not describe the picture" if needs.prompt and item.sources and not needs.source else ""


def score_items(models: RewardModels, items: Sequence[Item], names: Sequence[str]) -> list[Row]:
    """image, prompt, and the calibrated score of every reward, None where it cannot judge."""
    rows: list[Row] = [{"image": str(item.image), "prompt": item.prompt, **dict.fromkeys(names)} for item in items]
    with Progress("score images", len(items), "image") as progress:
        for start in range(0, len(items), CHUNK):
            part = range(start, min(start + CHUNK, len(items)))
            opened = {path: _open(path) for i in part for path in (items[i].image, *items[i].sources)}
            for name in names:
                chosen = [i for i in part if not _lacks(name, items[i])]
                sources = [[opened[path] for path in items[i].sources] for i in chosen] if NEEDS[name].source else None
                found = models.score(name, [items[i].prompt or "" for i in chosen], [opened[items[i].image] for i in chosen], sources)
                for i, value in zip(chosen, found.tolist(), strict=True):
                    rows[i][name] = value
            progress.update(len(part))
    return rows


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).copy()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise QI2Error(f"{path} cannot be read as an image ({error}); give PNG, JPEG or WebP files") from error


def write_rows(rows: Sequence[Mapping[str, str | float | None]], out: Path) -> None:
    """As .csv, or as .json, a list of objects."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".json":
        out.write_text(json.dumps(list(rows), indent=1, ensure_ascii=False), encoding="utf-8")
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    out.write_text(text.getvalue(), encoding="utf-8")
