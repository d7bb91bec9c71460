"""Large images in overlapping tiles: memory of the network is bounded by the tile, and no seam shows.

Every tile counts with a weight that falls linearly to nothing over the overlap with its neighbours, so that where one tile ends it no longer
counts. A tile sees only itself (the attention in the middle looks at all it is given), so that the result is near that of the whole image and
not equal to it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from qi2.models.vae_config import VAEArchitecture


def in_tiles(function: Callable[[Tensor], Tensor], x: Tensor, step_in: int, step_out: int, cfg: VAEArchitecture) -> Tensor:
    """``function(x)``, (B,C,h*step_in,w*step_in) -> (B,D,h*step_out,w*step_out), in tiles of ``cfg.tiling`` where the image has more pixels than it says.

    ``h`` and ``w`` count cells of the latent grid, ``cfg.factor`` pixels wide.
    """
    height, width = (length // step_in for length in x.shape[-2:])
    tiling, factor = cfg.tiling, cfg.factor
    side, overlap = tiling.side // factor, tiling.overlap // factor
    if not tiling.above or height * width * factor**2 <= tiling.above or max(height, width) <= side:
        return function(x)
    total, weights = torch.zeros(()), torch.zeros(())
    for top in starts(height, side, overlap):
        for left in starts(width, side, overlap):
            bottom, right = min(top + side, height), min(left + side, width)
            part = function(x[..., top * step_in : bottom * step_in, left * step_in : right * step_in])
            if total.dim() == 0:
                total = part.new_zeros(*part.shape[:2], height * step_out, width * step_out, dtype=torch.float32)
                weights = torch.zeros_like(total[:1, :1])
            down, across = (
                ramp(a * step_out, b * step_out, length * step_out, overlap * step_out).to(part.device)
                for a, b, length in ((top, bottom, height), (left, right, width))
            )
            weight = torch.outer(down, across)
            place = (..., slice(top * step_out, bottom * step_out), slice(left * step_out, right * step_out))
            total[place] += weight * part
            weights[place] += weight
    return (total / weights).to(part.dtype)


def starts(length: int, side: int, overlap: int) -> list[int]:
    """Where tiles begin that cover ``length`` evenly and share at least ``overlap`` with the next."""
    if length <= side:
        return [0]
    count = -(-(length - overlap) // (side - overlap))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def ramp(start: int, end: int, length: int, overlap: int) -> Tensor:
    """Weights (end - start,) of one tile along one axis: 1 inside and at the image's edge, towards the tile's other ends linearly to 0 over ``overlap``."""
    places = torch.arange(end - start, dtype=torch.float32) + 0.5
    up = places / overlap if start > 0 else torch.ones_like(places)
    down = places.flip(0) / overlap if end < length else torch.ones_like(places)
    return torch.minimum(up, down).clamp(max=1.0)
