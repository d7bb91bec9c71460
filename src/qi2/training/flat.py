"""Arrays of unlike shapes in one safetensors file, one after the other, written in place and read through a memory map.

What is mapped takes no memory of its own: the system keeps in its cache what is read, for all processes together.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DTYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype(np.float16), "F32": np.dtype(np.float32), "I64": np.dtype(np.int64)}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LENGTH = 8  # bytes of the header's length
TOKENS, AT, SHAPE = "tokens", "at", "shape"


def mapped(path: Path, mode: str = "r") -> dict[str, np.ndarray]:
    """The tensors of a safetensors file as memory maps, by name."""
    with open(path, "rb") as handle:
        length = int.from_bytes(handle.read(LENGTH), "little")
        header = json.loads(handle.read(length))
    found = {}
    for name, entry in header.items():
        dtype, (begin, end) = DTYPES[entry["dtype"]], entry["data_offsets"]
        empty = begin == end
        found[name] = np.empty(entry["shape"], dtype) if empty else np.memmap(path, dtype, mode, LENGTH + length + begin, tuple(entry["shape"]))  # type: ignore[call-overload]
    return found


def allocate(path: Path, tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> dict[str, np.ndarray]:
    """A new safetensors file of zeros with these types and shapes, as memory maps to write to."""
    header, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = int(np.prod(shape)) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % LENGTH)
    with open(path, "wb") as handle:
        handle.write(len(raw).to_bytes(LENGTH, "little") + raw)
        handle.truncate(LENGTH + len(raw) + at)
    return mapped(path, "r+")


class LatentWriter:
    """A file of fp16 latents whose shapes (height, width) are known; one of (0, 0) is absent."""

    def __init__(self, path: Path, channels: int, shapes: Sequence[tuple[int, int]]) -> None:
        sizes = np.array(shapes, dtype=np.int64).reshape(-1, 2)
        at = np.concatenate([[0], np.cumsum(sizes.prod(1))])
        integer = DTYPES["I64"]
        spec: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
            AT: (integer, at.shape),
            SHAPE: (integer, sizes.shape),
            TOKENS: (DTYPES["F16"], (int(at[-1]), channels)),
        }
        self._maps = allocate(path, spec)
        self._maps[AT][:], self._maps[SHAPE][:] = at, sizes

    def put(self, i: int, latents: Tensor) -> None:
        """Write latents (C, h, w) of one image."""
        at = self._maps[AT]
        self._maps[TOKENS][at[i] : at[i + 1]] = latents.flatten(1).T.half().numpy()


class LatentStore:
    """Reads what a `LatentWriter` wrote."""

    def __init__(self, path: Path) -> None:
        maps = mapped(path)
        self.path, self.tokens, self.at, self.shape = path, maps[TOKENS], np.array(maps[AT]), np.array(maps[SHAPE])

    def __reduce__(self) -> tuple[type["LatentStore"], tuple[Path]]:
        return LatentStore, (self.path,)  # another process maps the file again

    def __len__(self) -> int:
        return len(self.shape)

    @property
    def channels(self) -> int:
        """C of every image."""
        return int(self.tokens.shape[1])

    def has(self, i: int) -> bool:
        """Whether image i is there."""
        return bool(self.at[i + 1] > self.at[i])

    def __getitem__(self, i: int) -> Tensor:
        """Latents (C, h, w) of image i in fp32."""
        height, width = self.shape[i].tolist()
        tokens = torch.from_numpy(self.tokens[self.at[i] : self.at[i + 1]].astype(np.float32))
        return tokens.T.unflatten(1, (height, width)).contiguous()
