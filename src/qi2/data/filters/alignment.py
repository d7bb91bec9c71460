"""How different two pictures are once one is shifted onto the other: the measure behind near-duplicate detection.

Perceptual hashes keep signs of frequency coefficients, and drawn pictures with plain areas and symmetric shapes have many
coefficients that are exactly zero: a shift by one pixel flips a fifth of the bits, while two different shapes in the same
colour differ in fewer. Small thumbnails, aligned and compared block by block relative to the contrast inside the block,
separate the two cases.
"""

import numpy as np
from PIL import Image

SIDE = 32  # px of a thumbnail
COARSE = 8  # px of the coarse thumbnail that candidates are searched with
MAX_SHIFT = 1.5  # thumbnail pixels, about 5 % of the picture
INNER = slice(2, SIDE - 2)  # 28 compared pixels; shifting spoils the rim
LAYOUT = (7, 0.06)  # block side in thumbnail pixels, contrast floor of full scale: what is where
DETAIL = (2, 0.03)  # the same for small parts, such as a mouth or a letter
CHUNK = 64  # pairs at once, so that they stay in the processor's cache


def thumbnail(image: Image.Image) -> bytes:
    """32x32 RGB by averaging, 3072 bytes; the aspect ratio is not kept."""
    return image.resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def unpack(thumbnails: list[bytes]) -> np.ndarray:
    """uint8 (N, 3, 32, 32) from ``thumbnail`` bytes."""
    return planes(np.frombuffer(b"".join(thumbnails), np.uint8).reshape(len(thumbnails), -1))


def planes(flat: np.ndarray) -> np.ndarray:
    """uint8 (N, 3, 32, 32) of the bytes (N, 3072) of thumbnails."""
    return np.ascontiguousarray(flat.reshape(len(flat), SIDE, SIDE, 3).transpose(0, 3, 1, 2))


def coarse(thumbnails: np.ndarray) -> np.ndarray:
    """float32 (N, 192) in 0..1: 8x8 block means of ``unpack``'s thumbnails."""
    step = SIDE // COARSE
    blocks = thumbnails.reshape(-1, 3, COARSE, step, COARSE, step).mean((3, 5), dtype=np.float32)
    return blocks.reshape(len(thumbnails), -1) / 255


def matches(thumbnails: np.ndarray, first: np.ndarray, second: np.ndarray, layout: float, detail: float) -> np.ndarray:
    """Which pairs (first[i], second[i]), indices into ``thumbnails``, are one picture: both differences within their limits.

    0 is identical. Re-encoded, resized and slightly shifted copies mostly stay below 0.2 (layout) and 0.8 (detail). One other
    shape in one of four places gives a layout difference of 0.3 or more, another letter or mouth a detail difference of about 1.
    """
    found = np.zeros(len(first), bool)
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        fixed = _smooth(thumbnails[second[part]])
        aligned = _aligned(_smooth(thumbnails[first[part]]), fixed)
        near = block_difference(aligned, fixed, *LAYOUT) <= layout
        near[near] = block_difference(aligned[near], fixed[near], *DETAIL) <= detail
        found[part] = near
    return found


def _aligned(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    down = np.zeros(len(moving), np.float32)
    right = np.zeros(len(moving), np.float32)
    aligned = moving
    for _ in range(2):
        more_down, more_right = _estimate_shift(aligned, fixed)
        down = np.clip(down + more_down, -MAX_SHIFT, MAX_SHIFT)
        right = np.clip(right + more_right, -MAX_SHIFT, MAX_SHIFT)
        aligned = _interpolation(down)[:, None] @ moving @ _interpolation(right)[:, None].transpose(0, 1, 3, 2)
    return aligned


def block_difference(first: np.ndarray, second: np.ndarray, side: int, floor: float) -> np.ndarray:
    """The largest over blocks and channels of the mean difference relative to the lesser of the two contrasts plus ``floor``."""
    a, b = _blocks(first, side), _blocks(second, side)
    contrast = np.minimum(_contrast(a), _contrast(b))
    return np.asarray((_mean(np.abs(a - b)).max(1) / (contrast + floor)).max(-1))


def _smooth(thumbnails: np.ndarray) -> np.ndarray:
    """float32 in 0..1, blurred by (1 2 1)/4 in both directions, so that fractions of a pixel can be interpolated."""
    padded = np.pad(thumbnails.astype(np.float32) / 255, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4


def _estimate_shift(moving: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares shift (down, right) in thumbnail pixels, after Lucas and Kanade (1981)."""
    both = moving + fixed
    down = (both[:, :, 2:, 1:-1] - both[:, :, :-2, 1:-1]) / 4
    right = (both[:, :, 1:-1, 2:] - both[:, :, 1:-1, :-2]) / 4
    change = (moving - fixed)[:, :, 1:-1, 1:-1]
    stacked = np.stack([part.reshape(len(moving), -1) for part in (down, right, change)], axis=1)
    products = stacked @ stacked.transpose(0, 2, 1)
    yy, xx, xy = products[:, 0, 0] + 1e-3, products[:, 1, 1] + 1e-3, products[:, 0, 1]
    y, x = products[:, 0, 2], products[:, 1, 2]
    determinant = yy * xx - xy * xy
    return (xx * y - xy * x) / determinant, (yy * x - xy * y) / determinant


def _interpolation(shift: np.ndarray) -> np.ndarray:
    """(P, 32, 32) matrices that shift a column of pixels down by ``shift``, linearly, with edges repeated."""
    position = np.clip(np.arange(SIDE) - shift[:, None], 0, SIDE - 1)
    below = np.minimum(position.astype(int), SIDE - 2)
    share = (position - below).astype(np.float32)
    matrix = np.zeros((len(shift), SIDE, SIDE), np.float32)
    pair, row = np.arange(len(shift))[:, None], np.arange(SIDE)[None]
    matrix[pair, row, below] = 1 - share
    matrix[pair, row, below + 1] = share
    return matrix


def _blocks(images: np.ndarray, side: int) -> np.ndarray:
    """(P, 3, blocks, side * side)."""
    inner = images[:, :, INNER, INNER]
    count = inner.shape[-1] // side
    blocks = inner.reshape(len(images), 3, count, side, count, side).transpose(0, 1, 2, 4, 3, 5)
    return blocks.reshape(len(images), 3, count * count, side * side)


def _contrast(blocks: np.ndarray) -> np.ndarray:
    """(P, blocks): mean deviation from the block's mean, the largest over colour channels."""
    return np.asarray(_mean(np.abs(blocks - _mean(blocks)[..., None])).max(1))


def _mean(blocks: np.ndarray) -> np.ndarray:
    """Mean over the last axis; as a product it is several times faster than NumPy's mean over short rows."""
    return np.asarray(blocks @ np.full(blocks.shape[-1], 1 / blocks.shape[-1], np.float32))
