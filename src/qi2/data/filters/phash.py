"""Perceptual hash of a thumbnail: the signs of its 16 x 16 lowest frequencies, the lowest first (after pHash and PDQ, Facebook, 2019).

256 bits, of which the first 64 are those of the lowest 8 x 8. A picture re-encoded, resized or blurred differs in few bits, one with its
rim cut off in few of the first 64, and another picture in about half. Meant for photographs: pictures with plain areas have
frequencies that are nearly zero, whose signs turn over with a shift by one pixel (see `alignment`).
"""

import numpy as np

from qi2.data.filters.alignment import SIDE

WAVES = 16  # frequencies in each direction, from the lowest but the mean
BITS = WAVES * WAVES
LOW = 64  # bits of the lowest 8 x 8
BLOCK = 4096  # thumbnails at once
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def phash(thumbnails: np.ndarray) -> np.ndarray:
    """(N, 32) bytes of thumbnails (N, 3, 32, 32) uint8; the first 8 bytes are the 64-bit hash."""
    waves, order = _cosines(), _lowest_first()
    hashes = np.zeros((len(thumbnails), BITS // 8), np.uint8)
    for start in range(0, len(thumbnails), BLOCK):
        part = slice(start, start + BLOCK)
        grey = np.einsum("nchw,c->nhw", thumbnails[part].astype(np.float32), LUMA)
        spectrum = (waves @ grey @ waves.T).reshape(len(grey), BITS)
        hashes[part] = np.packbits(spectrum[:, order] > 0, axis=1)
    return hashes


def _cosines() -> np.ndarray:
    """(WAVES, SIDE) rows of the discrete cosine transform."""
    wave, place = np.arange(1, WAVES + 1)[:, None], np.arange(SIDE)[None]
    return np.cos(np.pi * wave * (place + 0.5) / SIDE).astype(np.float32)


def _lowest_first() -> np.ndarray:
    """Order of the spectrum's values by the larger of their two frequencies."""
    down, right = np.divmod(np.arange(BITS), WAVES)
    return np.argsort(np.maximum(down, right), kind="stable")
