"""Rows of editing pairs for ingest, from any photographs (report 2.1)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageOps

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.edits.base import PhotoEdit
from qi2.data.edits.mask import encode_mask
from qi2.data.edits.registry import OPERATIONS, make_edit
from qi2.data.shards import Row
from qi2.data.world.defects import encode_png

SECOND = 2  # times the final size that a second photograph may have, so that filling a canvas does not enlarge it
KINDS_TRIED = 6  # per pair, where kinds do not apply to its photograph
TEMPLATES = 4  # phrasings kept per pair


@dataclass(frozen=True)
class Photograph:
    """A photograph that edits may be made of; ``load`` gives it as upright RGB, ``caption`` is empty where there is none."""

    id: str
    load: Callable[[], Image.Image]
    caption: str = ""
    licence: str = "unknown"
    origin: str = ""
    split: str = "train"


@dataclass(frozen=True)
class Pick:
    """What an edit is made of: its number, its photograph, a second one, and among how many that was drawn."""

    number: int
    photo: Photograph
    other: Photograph | None
    among: int


def photo_edit_rows(
    photos: Iterable[Photograph], n: int, seed: int, mix: Mapping[str, float] | None = None, side: int = 256, square: bool = False, first: int = 0
) -> Iterator[Row]:
    """Rows of the edits number ``first`` to ``first + n``, references before their target, as PNG of at most ``side`` px.

    Edits take the photographs in turn; a second photograph comes from the same split. ``mix``: relative weights of kinds (all alike
    without). ``square``: photographs are cut to their centred square first, so that places stay true where training cuts them so.
    An edit depends on the photographs, the seed and its number alone, so any process may make any part; fewer than ``n``
    come where no tried kind applies or a photograph cannot be decoded. Raises QI2Error for unknown kinds.
    """
    weights = kind_weights(mix)
    for pick in picks(photos, n, seed, first):
        yield from picked_rows([pick], seed, weights, side, square)


def picks(photos: Iterable[Photograph], n: int, seed: int, first: int = 0) -> list[Pick]:
    """The photographs of the edits number ``first`` to ``first + n``; none are read."""
    known = list(photos)
    splits: dict[str, list[Photograph]] = {}
    for photo in known:
        splits.setdefault(photo.split, []).append(photo)
    found = []
    for number in range(first, first + n) if known else ():
        photo = known[number % len(known)]
        fellows = splits[photo.split]
        drawn = fellows[_second(_rng(seed, number), len(fellows))]
        found.append(Pick(number, photo, None if drawn is photo else drawn, len(fellows)))
    return found


def picked_rows(given: Sequence[Pick], seed: int, weights: Mapping[str, float], side: int, square: bool) -> list[Row]:
    """The rows of these edits in order, for any process."""
    rows: list[Row] = []
    for pick in given:
        rng = _rng(seed, pick.number)
        _second(rng, pick.among)
        with suppress(QI2Error):  # one of the two cannot be decoded, which curation reports
            if (edit := _draw(pick.photo, pick.other, weights, rng, side, square)) is not None:
                rows += _rows(f"photoedit-{pick.number:06d}", edit, pick.photo, pick.other, rng)
    return rows


def _rng(seed: int, number: int) -> np.random.Generator:
    return numpy_rng(seed, "photo-edit", number)


def _second(rng: np.random.Generator, among: int) -> int:
    """The first draw of an edit's numbers: which photograph of its split is the second."""
    return int(rng.integers(among))


def kind_weights(mix: Mapping[str, float] | None) -> dict[str, float]:
    """Kinds with a weight above 0, all alike without a mix; raises QI2Error for unknown kinds and where none is left."""
    if unknown := set(mix or {}) - set(OPERATIONS):
        raise QI2Error(f"the mix of photo edits has unknown kinds {sorted(unknown)}; kinds are {', '.join(OPERATIONS)}")
    weights = {kind: float(weight) for kind, weight in (mix or dict.fromkeys(OPERATIONS, 1.0)).items() if weight > 0}
    if not weights:
        raise QI2Error("the mix of photo edits has no kind with a weight above 0; give one, or ask for no photo edits")
    return weights


def _draw(photo: Photograph, other: Photograph | None, weights: Mapping[str, float], rng: np.random.Generator, side: int, square: bool) -> PhotoEdit | None:
    """The first edit that works out, of kinds drawn by weight without repetition."""
    kinds, shares = list(weights), np.array(list(weights.values()))
    whole, second = _loaded(photo, square), None
    for kind in rng.choice(kinds, min(KINDS_TRIED, len(kinds)), replace=False, p=shares / shares.sum()).tolist():
        operation = OPERATIONS[kind]
        if operation.two and other is not None and second is None:
            second = shrunk(_loaded(other, square), SECOND * side)
        edit = make_edit(shrunk(whole, operation.detail * side), second if operation.two else None, photo.caption, rng, kind)
        if edit is not None:
            references = tuple(shrunk(image, side) for image in edit.references)
            return PhotoEdit(kind, references, shrunk(edit.target, side), edit.instructions, _shrunk_mask(edit, side))
    return None


def _loaded(photo: Photograph, square: bool) -> Image.Image:
    image = photo.load()
    return ImageOps.fit(image, (min(image.size),) * 2) if square else image


def shrunk(image: Image.Image, side: int) -> Image.Image:
    """The image with its longer side at most ``side``; never enlarged."""
    longest = max(image.size)
    if longest <= side:
        return image
    width, height = (max(1, round(length * side / longest)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _shrunk_mask(edit: PhotoEdit, side: int) -> Image.Image:
    """The mask at the size of the shrunk target; only edits that may change everything shrink their target."""
    target = shrunk(edit.target, side)
    return edit.mask if target.size == edit.mask.size else Image.new("L", target.size, 255)


def _rows(name: str, edit: PhotoEdit, photo: Photograph, other: Photograph | None, rng: np.random.Generator) -> Iterator[Row]:
    """Both photographs' licences and origins stand at every row of an edit that uses both."""
    used = [photo, other] if OPERATIONS[edit.kind].two and other is not None else [photo]
    licence = " AND ".join(sorted({item.licence for item in used}))
    origin = " ".join(dict.fromkeys(item.origin or item.id for item in used))
    references = tuple(f"{name}-ref{index}" for index in range(len(edit.references)))
    row = partial(Row, source="photo_edit", split=photo.split, licence=licence, origin=origin)
    for reference, image in zip(references, edit.references, strict=True):
        yield row(reference, encode_png(image), "png", (), task="reference", kind="reference")
    order = rng.permutation(len(edit.instructions))[:TEMPLATES]
    captions = tuple(edit.instructions[int(index)] for index in order)
    region = encode_mask(edit.mask)
    yield row(name, encode_png(edit.target), "png", captions, task="ti2i", kind=edit.kind, references=references, region=region, caption_kind="instruction")
