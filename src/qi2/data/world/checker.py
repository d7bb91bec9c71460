"""Exact checkers: reads a picture cell by cell and compares it with what was asked for.

A cell is read without knowing the scene: its foreground colour is the one that best explains its pixels as mixtures with the
background, and the coverage that follows is compared with the masks of all shapes (or letters). Works from 32 to 256 px and on
VAE reconstructions.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world.edits import Edit
from qi2.data.world.palette import ALPHABET, BACKGROUNDS, COLORS, INK, OUTLINES, RELATIONS, SHAPES, TEXTURES
from qi2.data.world.render import cell_box, mask_array, render
from qi2.data.world.scene import Cell, Object, Scene

Array = np.ndarray
Shown = Object | str | None

UNKNOWN = "?"
WORKING_CELL = 32  # px; larger cells are averaged down to about this side before they are read
BACKGROUND_TOLERANCE = 45.0  # RGB distance of the background from its nominal colour
VISIBLE = 48.0  # RGB distance from the background above which a pixel belongs to the foreground
EMPTY_SHARE = 0.025  # of a cell's pixels may be visible in an empty cell
STRAY = 75.0  # RGB distance from the line background-foreground above which a pixel is unexplained
STRAY_SHARE = 0.04
SHAPE_OVERLAP = 0.70  # least soft intersection over union
LETTER_OVERLAP = 0.60
MARGIN = 0.03  # by which the best mask must beat the second
DAMAGED = 12.0  # mean difference of RGB above which a pixel of a damaged picture counts as damaged
RESTORED = 0.5  # of the damage there, in mean absolute error, may be left in a restored picture

_NAMES = (*COLORS, "black")
_PALETTE = np.array([*COLORS.values(), INK], dtype=np.float32)
_BACKGROUND_NAMES = tuple(BACKGROUNDS)
_BACKGROUND_RGB = np.array(list(BACKGROUNDS.values()), dtype=np.float32)


@dataclass(frozen=True)
class Reading:
    """What a picture shows: background (None when it is none of the world's) and cell to object, letter, ``?`` or None."""

    background: str | None
    cells: dict[Cell, Shown]

    def objects(self) -> list[Object]:
        """The recognised objects in reading order."""
        return [shown for shown in self.cells.values() if isinstance(shown, Object)]

    def occupied(self) -> set[Cell]:
        """The cells that show anything at all."""
        return {cell for cell, shown in self.cells.items() if shown is not None}

    def words(self) -> list[str]:
        """The letters of every row that has any."""
        rows = sorted({row for row, _ in self.cells})
        lines = ("".join(shown for (r, _), shown in self.cells.items() if r == row and isinstance(shown, str)) for row in rows)
        return [line for line in lines if line]


def read(image: Image.Image, grid: Cell = (2, 2), texture: str = "plain", outlined: bool = False) -> Reading:
    """Read every cell of a square picture whose background has a known texture; only an outline drawing has outlines to be found."""
    if (factor := image.width // (WORKING_CELL * max(grid))) > 1:
        image = image.reduce(factor)
    pixels = _pixels(image)
    background, behind = _background(pixels, grid, texture)
    cells: dict[Cell, Shown] = {}
    for row in range(grid[0]):
        for col in range(grid[1]):
            left, top, right, bottom = cell_box(grid, (row, col), image.width)
            cells[row, col] = _read_cell(pixels[top:bottom, left:right], behind[top:bottom, left:right], (row, col), outlined)
    return Reading(background, cells)


def check(image: Image.Image, scene: Scene) -> dict[str, bool]:
    """Which attributes of the scene the picture shows, and ``all``.

    Keys are, as far as the kind has them, object, shape, color, count, position, relation, word, background; a portrait has hair,
    skin, glasses, expression, shirt and face (the whole picture is close) instead.
    Relations and counts accept every layout that fulfils them.
    """
    if scene.portrait or scene.layout:
        from qi2.data.world.checker_rich import check_rich

        return check_rich(image, scene)
    return compare(_read_as(image, scene), scene)


def _read_as(image: Image.Image, scene: Scene) -> Reading:
    return read(image, scene.grid, scene.texture, scene.outlined)


def compare(reading: Reading, scene: Scene) -> dict[str, bool]:
    """``check`` for a picture that has been read."""
    result: dict[str, bool] = {}
    found = reading.objects()
    if scene.objects:
        result["object"] = _contains((item.combo for item in found), (item.combo for item in scene.objects), scene.kind)
        result["shape"] = _contains((item.shape for item in found), (item.shape for item in scene.objects), scene.kind)
        result["color"] = _contains((item.color for item in found), (item.color for item in scene.objects), scene.kind)
    result["count"] = len(reading.occupied()) == len(scene.occupied())
    if scene.kind == "relation":
        result["relation"] = _related(found, scene)
    elif scene.kind != "count":
        result["position"] = _placed(reading, scene)
    if scene.words:
        result["word"] = reading.words() == [word.text for word in scene.words]
    result["background"] = reading.background == scene.background
    return result | {"all": all(result.values())}


def check_edit(image: Image.Image, edit: Edit, source_image: Image.Image) -> dict[str, bool | float]:
    """``done``: the region shows what was asked for; ``all``: the whole picture is the target; ``kept_mae``: mean absolute
    difference (0..255) from the first reference's picture over the pixels that may not change, 0 where all may.

    A damaged picture can often still be read, so a restored one must also be much nearer to the clean one where the damage was.
    """
    if image.size != source_image.size:
        raise QI2Error(f"the edited picture is {image.size} and its source {source_image.size}; compare pictures of one size")
    reading = _read_as(image, edit.target)
    shown, whole = edit.target.occupied(), compare(reading, edit.target)["all"]
    if edit.region == "all":
        done = whole
    elif isinstance(edit.region, str):
        done = reading.background == edit.target.background
    else:
        done = all(reading.cells[cell] == shown.get(cell) for cell in edit.region)
    restored = not edit.references[0].damage or _restored(image, edit, source_image)
    change = np.abs(_pixels(image) - _pixels(source_image)).mean(axis=2)
    kept = kept_pixels(edit, image.width)
    return {"done": done and restored, "all": whole and restored, "kept_mae": float(change[kept].mean()) if kept.any() else 0.0}


def _restored(image: Image.Image, edit: Edit, source_image: Image.Image) -> bool:
    clean = _pixels(render(edit.target, image.width))
    left, damage = (np.abs(_pixels(picture) - clean).mean(axis=2) for picture in (image, source_image))
    where = damage > DAMAGED
    return bool(left[where].sum() <= RESTORED * damage[where].sum())


@lru_cache(maxsize=4096)
def kept_pixels(edit: Edit, size: int) -> Array:
    """Boolean (size, size): the pixels that the edit may not change (for a background edit, the inside of everything drawn)."""
    if isinstance(edit.region, str):
        kept = np.zeros((size, size), dtype=bool)
        if edit.region == "all":
            return kept
        for cell, shown in edit.target.occupied().items():
            left, top, right, bottom = cell_box(edit.target.grid, cell, size)
            mark = shown.shape if isinstance(shown, Object) else shown
            kept[top:bottom, left:right] = mask_array(mark, right - left, bottom - top) > 0.999
        return kept
    kept = np.ones((size, size), dtype=bool)
    for cell in edit.region:
        left, top, right, bottom = cell_box(edit.target.grid, cell, size)
        kept[top:bottom, left:right] = False
    return kept


def _pixels(image: Image.Image) -> Array:
    return np.asarray(image.convert("RGB"), dtype=np.float32)


def _contains(found: Iterable[Hashable], wanted: Iterable[Hashable], kind: str) -> bool:
    """Whether all that is wanted was found; for a count, whether nothing else was found."""
    have, want = Counter(found), Counter(wanted)
    return set(have) == set(want) if kind == "count" else not want - have


def _placed(reading: Reading, scene: Scene) -> bool:
    """The right cells are occupied, and no wanted object that was found stands in another's place."""
    shown = scene.occupied()
    if reading.occupied() != set(shown):
        return False
    if any(isinstance(reading.cells[cell], str) != isinstance(item, str) for cell, item in shown.items() if reading.cells[cell] != UNKNOWN):
        return False
    combos = {item.combo for item in reading.objects()}
    return all(reading.cells[item.cell] == item for item in scene.objects if item.combo in combos)


def _related(found: list[Object], scene: Scene) -> bool:
    one, other = scene.objects
    step_row, step_col = RELATIONS[scene.relation or ""]
    return any((a.row - b.row) * step_row + (a.col - b.col) * step_col > 0 for a in found for b in found if a.combo == one.combo and b.combo == other.combo)


@lru_cache(maxsize=64)
def _edge_rows(grid: Cell, size: int) -> Array:
    """The pixel rows along the upper and lower edge of every row of cells, which no shape or letter reaches."""
    rows: list[int] = []
    for row in range(grid[0]):
        _, top, _, bottom = cell_box(grid, (row, 0), size)
        depth = max(1, round(0.06 * (bottom - top)))
        rows += [*range(top, top + depth), *range(bottom - depth, bottom)]
    return np.array(rows)


def _background(pixels: Array, grid: Cell, texture: str) -> tuple[str | None, Array]:
    """Name of the background (None when it is none of the known), and its pixels (H, W, 3) as measured or, if textured, as drawn."""
    size = pixels.shape[0]
    edge = pixels[_edge_rows(grid, size)].reshape(-1, 3)
    if texture == "plain":
        median = np.median(edge, axis=0)
        distance = np.linalg.norm(_BACKGROUND_RGB - median, axis=1)
        nearest = int(distance.argmin())
        known = distance[nearest] < BACKGROUND_TOLERANCE
        return _BACKGROUND_NAMES[nearest] if known else None, np.broadcast_to(median, pixels.shape)
    options = [(name, other) for name in _BACKGROUND_NAMES for other in TEXTURES]
    errors = [np.abs(_drawn(*option, size)[_edge_rows(grid, size)].reshape(-1, 3) - edge).mean() for option in options]
    name, shown = options[int(np.argmin(errors))]
    known = shown == texture and min(errors) < BACKGROUND_TOLERANCE / 2
    return name if known else None, _drawn(name, texture, size)


@lru_cache(maxsize=64)
def _drawn(background: str, texture: str, size: int) -> Array:
    return _pixels(render(Scene("many", background=background, texture=texture), size))


def _read_cell(pixels: Array, behind: Array, cell: Cell, outlined: bool) -> Shown:
    """The object, letter, ``?`` or None that a cell shows."""
    difference = pixels - behind
    visible = np.einsum("ijk,ijk->ij", difference, difference) > VISIBLE**2
    if np.count_nonzero(visible) <= EMPTY_SHARE * visible.size:
        return None
    spans = _PALETTE - behind.mean(axis=(0, 1))
    winner = _color(difference[visible], spans)
    span = spans[winner]
    coverage = np.clip(difference @ (span / (span @ span)), 0.0, 1.0)
    rest = difference - coverage[..., None] * span
    stray = np.einsum("ijk,ijk->ij", rest, rest) > STRAY**2
    if np.count_nonzero(stray) > STRAY_SHARE * stray.size:
        return UNKNOWN
    mark = _best_mark(coverage, _NAMES[winner] == "black", outlined)
    if mark is None:
        return UNKNOWN
    return mark if mark in ALPHABET else Object(mark, _NAMES[winner], *cell)


def _color(difference: Array, spans: Array) -> int:
    """Index of the colour that best explains the pixels (n, 3) as mixtures with the background; ``spans`` (colours, 3) start there."""
    length = (spans**2).sum(axis=1)
    along = difference @ spans.T
    coverage = np.clip(along / length, 0.0, 1.0)
    # |d - c s|^2 without |d|^2, which is the same for every colour
    squared = (coverage * (coverage * length - 2 * along)).sum(axis=0)
    return int(squared.argmin())


def _best_mark(coverage: Array, black: bool, outlined: bool) -> str | None:
    """The shape, letter or outline whose mask overlaps the coverage (H, W) most, if it does so clearly."""
    marks, masks, areas = _stack(black, outlined, coverage.shape[1], coverage.shape[0])
    shared = np.minimum(masks, coverage.ravel()).sum(axis=1)
    overlap = shared / (areas + coverage.sum() - shared)
    second, first = np.sort(overlap)[-2:]
    if first < (LETTER_OVERLAP if black else SHAPE_OVERLAP) or first - second < MARGIN:
        return None
    return marks[int(overlap.argmax())]


@lru_cache(maxsize=64)
def _stack(black: bool, outlined: bool, width: int, height: int) -> tuple[tuple[str, ...], Array, Array]:
    """Names, masks (n, height * width) and areas (n,) of all that can be black (letters; shapes too in an outline drawing) or coloured (shapes)."""
    marks = SHAPES if not black else (*ALPHABET, *OUTLINES, *SHAPES) if outlined else tuple(ALPHABET)
    masks = np.stack([mask_array(mark, width, height).ravel() for mark in marks])
    return marks, masks, masks.sum(axis=1)
