"""Makes a folder of files as a hostile or careless user would: damaged, mislabelled, absurd in size, with captions to match.

Deterministic. Every file name says what was done to it: ``0123-WAY.png``. A way is one function below.
"""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Rng = np.random.Generator
Made = tuple[bytes, str]  # the file's bytes and its suffix

SOUND = frozenset({"whole", "cmyk", "palette", "grey", "sixteen_bit", "alpha", "wrong_extension", "animated_gif", "animated_webp", "long_exif", "upside_down"})
"""Ways whose pictures are unusual but can be used."""


def _picture(rng: Rng, side: int = 0) -> Image.Image:
    """A smooth random picture of 40 to 160 px a side."""
    width, height = (side, side) if side else (int(value) for value in rng.integers(40, 160, 2))
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def _encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _any(rng: Rng) -> Made:
    form, suffix = [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("GIF", ".gif"), ("BMP", ".bmp"), ("TIFF", ".tif")][int(rng.integers(6))]
    return _encode(_picture(rng), form), suffix


def whole(rng: Rng) -> Made:
    return _any(rng)


def truncated(rng: Rng) -> Made:
    data, suffix = _any(rng)
    return data[: int(rng.integers(1, len(data)))], suffix


def flipped_bits(rng: Rng) -> Made:
    data, suffix = _any(rng)
    damaged = bytearray(data)
    for place in rng.integers(0, len(data), int(rng.integers(1, 40))):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged), suffix


def flipped_header(rng: Rng) -> Made:
    data, suffix = _any(rng)
    damaged = bytearray(data)
    for place in rng.integers(0, min(64, len(data)), int(rng.integers(1, 8))):
        damaged[place] = int(rng.integers(256))
    return bytes(damaged), suffix


def spliced(rng: Rng) -> Made:
    (first, suffix), (second, _) = _any(rng), _any(rng)
    return first[: len(first) // 2] + second[len(second) // 2 :], suffix


def wrong_extension(rng: Rng) -> Made:
    return _encode(_picture(rng), "PNG"), ".jpg"


def not_an_image(rng: Rng) -> Made:
    texts = b"<html>404</html>", b"#!/bin/sh\n", bytes(500), rng.bytes(700), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF"
    return texts[int(rng.integers(len(texts)))], ".png"


def empty(rng: Rng) -> Made:
    return b"", ".jpg"


def cmyk(rng: Rng) -> Made:
    return _encode(_picture(rng).convert("CMYK"), "JPEG"), ".jpg"


def sixteen_bit(rng: Rng) -> Made:
    return _encode(Image.fromarray(rng.integers(0, 65536, (60, 70), dtype=np.uint16)), "PNG"), ".png"


def palette(rng: Rng) -> Made:
    return _encode(_picture(rng).convert("P"), "PNG", transparency=int(rng.integers(256))), ".png"


def grey(rng: Rng) -> Made:
    return _encode(_picture(rng).convert(["L", "1", "LA"][int(rng.integers(3))]), "PNG"), ".png"


def alpha(rng: Rng) -> Made:
    image = _picture(rng).convert("RGBA")
    image.putalpha(_picture(rng).convert("L").resize(image.size))
    return _encode(image, "PNG"), ".png"


def animated_gif(rng: Rng) -> Made:
    frames = [_picture(rng, 64) for _ in range(5)]
    return _encode(frames[0], "GIF", save_all=True, append_images=frames[1:]), ".gif"


def animated_webp(rng: Rng) -> Made:
    frames = [_picture(rng, 64) for _ in range(4)]
    return _encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]), ".webp"


def long_exif(rng: Rng) -> Made:
    exif = Image.Exif()
    exif[0x010E] = "A" * 60_000
    return _encode(_picture(rng), "JPEG", exif=exif), ".jpg"


def broken_exif(rng: Rng) -> Made:
    block = b"Exif\x00\x00II*\x00" + struct.pack("<IH", 8, 65535) + rng.bytes(3000)
    data = _encode(_picture(rng), "JPEG")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:], ".jpg"


def absurd_orientation(rng: Rng) -> Made:
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(9, 60000))
    return _encode(_picture(rng), "JPEG", exif=exif), ".jpg"


def upside_down(rng: Rng) -> Made:
    exif = Image.Exif()
    exif[0x0112] = 3
    return _encode(_picture(rng), "JPEG", exif=exif), ".jpg"


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, scan: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + _chunk(b"IDAT", scan) + _chunk(b"IEND", b"")


def bomb(rng: Rng) -> Made:
    """A few kilobytes that say they are 12,000 x 12,000 px, and are: 432 MB once decoded."""
    return _png(12_000, 12_000, _ZEROS), ".png"


def huge_header(rng: Rng) -> Made:
    width, height = (int(value) for value in rng.integers(30_000, 2**31 - 1, 2))
    return _png(width, height, zlib.compress(rng.bytes(2000))), ".png"


def text_bomb(rng: Rng) -> Made:
    image = _encode(_picture(rng), "PNG")
    return image[:33] + _chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(80_000_000), 9)) + image[33:], ".png"


def needle(rng: Rng) -> Made:
    return _encode(Image.new("RGB", (1, int(rng.integers(1, 20_000))), "red"), "PNG"), ".png"


def speck(rng: Rng) -> Made:
    return _encode(Image.new("RGB", (1, 1), "red"), ["PNG", "JPEG", "BMP"][int(rng.integers(3))]), ".png"


_WAYS: tuple[Callable[[Rng], Made], ...] = (
    whole, truncated, flipped_bits, flipped_header, spliced, wrong_extension, not_an_image, empty, cmyk, sixteen_bit, palette, grey, alpha,
    animated_gif, animated_webp, long_exif, broken_exif, absurd_orientation, upside_down, bomb, huge_header, text_bomb, needle, speck,
)  # fmt: skip
_RARE = (bomb, text_bomb)  # each of them costs the generator memory or the reader time: two of each are enough
_OFTEN = (truncated, flipped_bits, flipped_header, spliced)
_SQUEEZE = zlib.compressobj(9)
_ZEROS = b"".join(_SQUEEZE.compress(bytes(36_001)) for _ in range(12_000)) + _SQUEEZE.flush()


def _caption(rng: Rng) -> bytes | None:
    """What stands in the .txt file; None: there is no such file."""
    usual = [b"a picture of colours", b"a picture of colours", "een plaatje, картинка, 图片, صورة".encode(), None, b"", b"\n\n   \n"]
    usual += [b"\xff\xfe\x80 not utf-8 \xc3", b"a\x00b\x1b[31mred", "\u202eright to left\u202c \U0001f600".encode()]
    absurd = [b"word " * 40_000, b"x" * 100_000, b"one line\n" * 1000]
    return absurd[int(rng.integers(3))] if rng.random() < 0.06 else usual[int(rng.integers(len(usual)))]


def write(folder: Path, n: int = 2000) -> dict[str, int]:
    """``n`` files, some links, and their captions; returns how many of each way there are."""
    folder.mkdir(parents=True)
    ways = [*_OFTEN * (n // 12), *[way for way in _WAYS if way not in _RARE] * n][: n - 2 * len(_RARE)] + [*_RARE] * 2
    counts: dict[str, int] = {}
    for index, way in enumerate(ways):
        rng = np.random.default_rng(index)
        data, suffix = way(rng)
        name = f"{index:04d}-{way.__name__}{suffix}"
        (folder / name).write_bytes(data)
        counts[way.__name__] = counts.get(way.__name__, 0) + 1
        caption = _caption(rng)
        if caption is not None:
            (folder / name).with_suffix(".txt").write_bytes(caption)
    return counts
