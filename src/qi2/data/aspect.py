"""Aspect buckets: about ``side`` x ``side`` pixels, both sides multiples of 32, two latent cells of the f16 VAE.

Report 2.3 names the resolutions only; the buckets are ours.
"""

from functools import lru_cache

import numpy as np

STEP = 32  # px
MOST_ASPECT = 4.0  # longer side / shorter side of a bucket


@lru_cache(maxsize=1 << 16)
def bucket(side: int, aspect: float) -> tuple[int, int]:
    """The bucket (width, height) of ``side`` whose aspect (width / height) is nearest."""
    return min(buckets(side), key=lambda box: (abs(np.log(box[0] / box[1] / aspect)), box))


@lru_cache(maxsize=64)
def buckets(side: int) -> tuple[tuple[int, int], ...]:
    """All buckets of a side: for every width the height that comes nearest to ``side`` x ``side`` pixels."""
    found = []
    for width in range(STEP, int(side * MOST_ASPECT) + STEP, STEP):
        height = max(STEP, round(side * side / width / STEP) * STEP)
        if max(width, height) <= MOST_ASPECT * min(width, height) and abs(width * height / side**2 - 1) <= 0.25:
            found.append((width, height))
    return tuple(found)
