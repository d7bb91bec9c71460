"""Pools of preference pairs as tensors, read once: pictures, source pictures, and the prompts' hidden states."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from qi2.core import rng
from qi2.core.progress import Progress
from qi2.models.condition import ConditionEncoder
from qi2.models.pixels import quantise, to_bytes, to_unit
from qi2.models.vae import VAE, over_white
from qi2.rewards.config import Needs
from qi2.rewards.pairs import Pair, PairSet

CHUNK = 256
Key = tuple[str, tuple[bytes, ...]]


class PromptReader:
    """Hidden states (L, C) of prompts with their source pictures, as the frozen language model reads them; each is read once."""

    def __init__(self, encoder: ConditionEncoder) -> None:
        self.encoder = encoder
        self._read: dict[Key, Tensor] = {}

    def __call__(self, prompts: Sequence[str], sources: Sequence[Sequence[Image.Image]]) -> list[Tensor]:
        keys = [(prompt, tuple(_digest(image) for image in images)) for prompt, images in zip(prompts, sources, strict=True)]
        new = {key: i for i, key in enumerate(keys) if key not in self._read}
        states = self.encoder.encode([prompts[i] for i in new.values()], [list(sources[i]) for i in new.values()]) if new else []
        self._read |= {key: state.text.half() for key, state in zip(new, states, strict=True)}
        return [self._read[key] for key in keys]


def _digest(image: Image.Image) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16, salt=repr(image.size).encode()[:16]).digest()


def pad(states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Hidden states of several prompts as (B, L, C), and the mask (B, L) of their tokens."""
    padded = torch.nn.utils.rnn.pad_sequence([state.float() for state in states], batch_first=True)
    lengths = torch.tensor([len(state) for state in states])
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


@dataclass
class PairPool:
    """N pairs: pictures uint8 (N, 2, 3, H, W), better first; sources uint8 (N, 3, H, W) and prompts, where the reward needs them."""

    pictures: Tensor
    sources: Tensor | None
    prompts: list[Tensor] | None
    texts: list[str]

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Inputs of the reward model: images (B, 2, 3, H, W) and, where needed, source, prompt and mask."""
        index = torch.as_tensor(list(rows))
        inputs = {"images": to_unit(self.pictures[index])}
        if self.sources is not None:
            inputs["source"] = to_unit(self.sources[index])
        if self.prompts is not None:
            inputs["prompt"], inputs["mask"] = pad([self.prompts[i] for i in rows])
        return inputs


def read_pool(pairs: PairSet, needs: Needs, reader: PromptReader, label: str) -> PairPool:
    """Draw or open all pairs and read their prompts."""
    pictures, sources, prompts, texts = [], [], [], []
    with Progress(label, pairs.count, "pair") as progress:
        for start in range(0, pairs.count, CHUNK):
            chunk: list[Pair] = [pairs.pair(i) for i in range(start, min(start + CHUNK, pairs.count))]
            pictures.append(torch.stack([to_bytes([pair.better for pair in chunk]), to_bytes([pair.worse for pair in chunk])], 1))
            if needs.source:
                sources.append(to_bytes([pair.sources[0] for pair in chunk]))
            if needs.prompt:
                prompts += reader([pair.prompt for pair in chunk], [pair.sources for pair in chunk])
            texts += [pair.prompt for pair in chunk]
            progress.update(len(chunk))
    return PairPool(torch.cat(pictures), torch.cat(sources) if sources else None, prompts or None, texts)


@torch.no_grad()
def through_vae(pool: PairPool, vae: VAE, share: float, noise: float, seed: int, label: str) -> PairPool:
    """The pool with ``share`` of its pictures encoded and decoded, their latents disturbed a little.

    A generated picture comes out of the decoder, a drawn one does not: without this, a reward could learn to tell which is which.
    """
    flat = pool.pictures.flatten(0, 1).clone()
    draw = rng.generator(seed, "rewards/decoded")
    chosen = torch.randperm(len(flat), generator=draw)[: round(share * len(flat))].sort().values
    with Progress(label, len(chosen), "picture") as progress:
        for rows in chosen.split(CHUNK):
            latents = vae.encode(to_unit(flat[rows]))
            strength = noise * torch.rand(len(rows), 1, 1, 1, generator=draw)
            decoded = vae.decode(latents + strength * torch.randn(latents.shape, generator=draw))
            flat[rows] = quantise(over_white(decoded))
            progress.update(len(rows))
    return PairPool(flat.view_as(pool.pictures), pool.sources, pool.prompts, pool.texts)
