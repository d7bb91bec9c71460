"""Large images in overlapping tiles: memory of the network is bounded by the tile, and no seam shows.

Every tile counts with a weight that falls linearly to nothing over the overlap with its neighbours, so that where one tile ends it no longer
counts. A tile sees only itself (the attention in the middle looks at all it is given), so that the result is near that of the whole image and
not equal to it.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from qi2.models.vae_config import VAEArchitecture


def in_tiles(function: Callable[[Tensor], Tensor], x: Tensor, step_in: int, step_out: int, cfg: VAEArchitecture) -> Tensor:
    """``function(x)``, (B,C,h*step_in,w*step_in) -> (B,D,h*step_out,w*step_out), in tiles where the image has more pixels than ``cfg.tiling`` says.

    ``h`` and ``w`` count cells of the latent grid, ``cfg.factor`` pixels wide. An image of one tile goes through as a whole.
    """
    height, width = (length // step_in for length in x.shape[-2:])
    tiling = cfg.tiling
    side, overlap = tiling.side // cfg.factor, tiling.overlap // cfg.factor
    if not tiling.above or height * width * cfg.factor**2 <= tiling.above or max(height, width) <= side:
        return function(x)
    total, weights = None, None
    for rows, columns in product(spans(height, side, overlap), spans(width, side, overlap)):
        part = function(x[..., scaled(rows, step_in), scaled(columns, step_in)])
        if total is None or weights is None:
            total = part.new_zeros((*part.shape[:2], height * step_out, width * step_out), dtype=torch.float32)
            weights = torch.zeros_like(total[:1, :1])
        down, across = (ramp(span, length, overlap, step_out) for span, length in ((rows, height), (columns, width)))
        weight = torch.outer(down, across).to(part.device)
        total[..., scaled(rows, step_out), scaled(columns, step_out)] += weight * part
        weights[..., scaled(rows, step_out), scaled(columns, step_out)] += weight
    assert total is not None and weights is not None
    return (total / weights).to(x.dtype)


def spans(length: int, side: int, overlap: int) -> list[slice]:
    """Tiles along one axis: they cover ``length`` evenly, and each shares at least ``overlap`` with the next."""
    if length <= side:
        return [slice(0, length)]
    count = -(-(length - overlap) // (side - overlap))
    starts = [round(i * (length - side) / (count - 1)) for i in range(count)]
    return [slice(start, start + side) for start in starts]


def scaled(span: slice, step: int) -> slice:
    """A span of cells in units of which ``step`` make a cell."""
    return slice(span.start * step, span.stop * step)


def ramp(span: slice, length: int, overlap: int, step: int) -> Tensor:
    """Weights of a tile along one axis, ``step`` per cell: 1 inside and up to the image's own ends, else falling linearly to 0 over ``overlap``."""
    places = (torch.arange((span.stop - span.start) * step, dtype=torch.float32) + 0.5) / (overlap * step)
    whole = torch.ones_like(places)
    return torch.minimum(places if span.start > 0 else whole, places.flip(0) if span.stop < length else whole).clamp(max=1.0)
