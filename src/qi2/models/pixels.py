"""Pictures to tensors and back: PIL images, bytes (uint8), and pixels in [-1, 1]."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def flatten_alpha(image: Image.Image) -> Image.Image:
    """RGB; transparency is composited over white."""
    if image.mode in ("RGBA", "LA", "P"):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def to_bytes(images: Sequence[Image.Image], channels: int = 3) -> Tensor:
    """Images of one size and any modes to uint8 (B, 3, H, W), transparency over white, or (B, 4, H, W) with it."""
    mode, convert = ("RGB", flatten_alpha) if channels == 3 else ("RGBA", lambda image: image.convert("RGBA"))
    arrays = [np.asarray(image if image.mode == mode else convert(image)) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def to_unit(values: Tensor) -> Tensor:
    """Bytes to [-1, 1]."""
    return values.float() / 127.5 - 1


def to_tensor(images: Sequence[Image.Image], channels: int = 3) -> Tensor:
    """Images as `to_bytes` takes them to (B, channels, H, W) in [-1, 1]."""
    return to_unit(to_bytes(images, channels))


def quantise(pixels: Tensor) -> Tensor:
    """[-1, 1] to bytes; what lies outside is clipped."""
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_images(pixels: Tensor) -> list[Image.Image]:
    """(B, 3 or 4, H, W), bytes or in [-1, 1], to RGB or RGBA images."""
    values = pixels if pixels.dtype == torch.uint8 else quantise(pixels)
    return [Image.fromarray(array) for array in values.permute(0, 2, 3, 1).cpu().numpy()]
