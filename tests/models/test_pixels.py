"""Pictures become tensors and come back with the same bytes, whatever their mode."""

import numpy as np
import torch
from PIL import Image

from qi2.models.pixels import quantise, to_bytes, to_images, to_tensor


def picture(mode: str) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (4, 6, len(mode)), dtype=np.uint8)
    return Image.fromarray(values.squeeze(), mode)


def test_every_byte_comes_back() -> None:
    for mode in ("RGB", "RGBA"):
        image = picture(mode)
        (again,) = to_images(to_tensor([image], len(mode)))
        assert (again.mode, again.tobytes()) == (mode, image.tobytes())
        assert to_images(to_bytes([image], len(mode)))[0].tobytes() == image.tobytes()


def test_other_modes_are_read_too_and_what_is_transparent_is_white() -> None:
    clear = picture("RGBA")
    clear.putalpha(0)
    assert to_bytes([clear, clear]).unique().tolist() == [255]
    assert to_bytes([picture("L")], 3).shape == (1, 3, 4, 6)
    assert to_bytes([picture("L")], 4)[:, 3].unique().tolist() == [255]


def test_what_lies_outside_is_clipped_and_half_precision_rounds_like_single() -> None:
    assert quantise(torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0, 0, 128, 255, 255]
    values = torch.linspace(-1, 1, 512).bfloat16()
    assert torch.equal(quantise(values), quantise(values.float()))
