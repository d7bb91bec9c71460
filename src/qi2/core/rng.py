"""Randomness keyed by (seed, purpose, indices), so that it depends neither on world size nor on where a run was resumed."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def key(seed: int, purpose: str, *index: int) -> int:
    """A 63-bit key for one named stream of random numbers, e.g. ``key(0, "noise", step, sample)``."""
    text = f"{seed}|{purpose}|" + ",".join(str(int(i)) for i in index)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_rng(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """A NumPy generator for the stream (seed, purpose, index...)."""
    return np.random.Generator(np.random.PCG64(key(seed, purpose, *index)))


def generator(seed: int, purpose: str, *index: int) -> "torch.Generator":
    """A CPU torch generator for the stream (seed, purpose, index...)."""
    import torch

    return torch.Generator().manual_seed(key(seed, purpose, *index))
