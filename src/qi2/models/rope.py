"""MSRoPE: one joint sequence of positions for text and images on three axes (frame, height, width).

Text tokens take the running position on all axes. An image block freezes its frame axis at the running position and is
centred on zero in height and width, then the running position advances by max(h, w) (Qwen-Image-2.1's causal layout).
"""

import torch
from torch import Tensor

PLACE_WAVES = 6


def text_positions(start: int, length: int) -> Tensor:
    """(length, 3): the same running position on every axis."""
    return torch.arange(start, start + length).view(-1, 1).expand(length, 3)


def image_positions(start: int, height: int, width: int) -> Tensor:
    """(height * width, 3) in raster order: frame = ``start``, height and width centred on zero."""
    rows = torch.arange(height) - (height - height // 2)
    columns = torch.arange(width) - (width - width // 2)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).view(-1, 2)
    return torch.cat([torch.full((height * width, 1), start), grid], dim=1)


def place_features(positions: Tensor) -> Tensor:
    """(..., 4 * PLACE_WAVES): sines and cosines of the rows and columns in positions (..., 3), at wavelengths 4, 8, 16 ... latents."""
    waves = 2.0 ** torch.arange(2, 2 + PLACE_WAVES, device=positions.device)
    angles = (2 * torch.pi * positions[..., 1:, None] / waves).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def frequencies(axes: list[int], theta: float) -> list[Tensor]:
    """Per axis of d channels, d / 2 angular frequencies theta^(-2i/d)."""
    return [theta ** (-torch.arange(0, d, 2, dtype=torch.float32, device="cpu") / d) for d in axes]


def rotation(positions: Tensor, freqs: list[Tensor]) -> Tensor:
    """Unit complex numbers (..., 1, sum(axes) / 2), the same for all heads, that turn channel pairs by positions (..., 3)."""
    angles = torch.cat([positions[..., i, None].float() * f for i, f in enumerate(freqs)], dim=-1)
    return torch.polar(torch.ones_like(angles), angles)[..., None, :]


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate adjacent channel pairs of x (..., heads, d), in fp32; complex products are fast on CPUs, and what a compiler cannot fuse."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if not x.is_cuda and not torch.compiler.is_compiling():
        return torch.view_as_real(torch.view_as_complex(pairs) * rotation).flatten(-2).to(x.dtype)
    return rotate_real(pairs, rotation).flatten(-2).to(x.dtype)


def rotate_real(pairs: Tensor, rotation: Tensor) -> Tensor:
    """The same for pairs (..., heads, d / 2, 2), in real arithmetic."""
    (even, odd), cos, sin = pairs.unbind(-1), rotation.real, rotation.imag
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
