"""The broken-files filter finds what Pillow's own verification misses."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from qi2.data.filters.broken import BrokenImageError, decode
from qi2.data.photos import PHOTOS, load
from qi2.data.world.defects import encode_jpeg, encode_png


def _photo() -> Image.Image:
    return load(PHOTOS[0]).crop((100, 50, 300, 200))


def test_truncated_jpeg_that_verify_accepts_is_broken() -> None:
    data = encode_jpeg(_photo(), 90)
    half = data[: len(data) // 2]
    Image.open(io.BytesIO(half)).verify()
    with pytest.raises(BrokenImageError, match="(?i)truncated"):
        decode(half)


def test_changed_bytes_inside_a_png_are_broken() -> None:
    data = bytearray(encode_png(_photo()))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(BrokenImageError):
        decode(bytes(data))


@pytest.mark.parametrize("data", [b"", b"<html>404</html>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_broken(data: bytes) -> None:
    with pytest.raises(BrokenImageError):
        decode(data)


def test_bytes_that_differ_from_their_recorded_hash_are_broken() -> None:
    data = encode_png(_photo())
    assert decode(data, hashlib.sha256(data).hexdigest()).format == "PNG"
    with pytest.raises(BrokenImageError, match="sha256"):
        decode(data, "0" * 64)


def test_rotated_pictures_are_seen_upright() -> None:
    upright = _photo()
    picture = decode(encode_jpeg(upright.transpose(Image.Transpose.ROTATE_90), 98, orientation=6))
    assert picture.orientation == 6
    assert picture.image.size == upright.size
    assert np.abs(np.asarray(picture.image, int) - np.asarray(upright, int)).mean() < 4


def test_transparent_pixels_become_white() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(buffer, "PNG")
    assert decode(buffer.getvalue()).image.getpixel((3, 3)) == (255, 255, 255)
