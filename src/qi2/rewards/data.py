"""Pools of judgements as tensors, read once: pictures, labels, source pictures, and the prompts' hidden states."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from qi2.core import rng
from qi2.core.progress import Progress
from qi2.models.condition import ConditionEncoder
from qi2.models.pixels import quantise, to_bytes, to_unit
from qi2.models.vae import VAE, over_white
from qi2.rewards.config import Needs
from qi2.rewards.pairs import Judgement, Judgements

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
class Pool:
    """N judgements of R = 2 pictures each, or of R = 1: pictures uint8 (N, R, 3, H, W), labels and truths (N,), truths NaN where unknown.

    sources uint8 (N, 3, H, W) and prompts, where the reward needs them; groups as `Judgement` has them.
    """

    pictures: Tensor
    labels: Tensor
    truths: Tensor
    texts: list[str]
    groups: list[str]
    sources: Tensor | None = None
    prompts: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def paired(self) -> bool:
        """Whether two pictures were compared each time, or one was scored."""
        return self.pictures.shape[1] == 2

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Inputs of the reward model: images (B, R, 3, H, W) and, where needed, source, prompt and mask."""
        index = torch.as_tensor(list(rows))
        inputs = {"images": to_unit(self.pictures[index])}
        if self.sources is not None:
            inputs["source"] = to_unit(self.sources[index])
        if self.prompts is not None:
            inputs["prompt"], inputs["mask"] = pad([self.prompts[i] for i in rows])
        return inputs

    def part(self, rows: Sequence[int]) -> "Pool":
        """Some of the judgements."""
        index = torch.as_tensor(list(rows), dtype=torch.long)
        texts, groups = ([values[i] for i in rows] for values in (self.texts, self.groups))
        prompts = None if self.prompts is None else [self.prompts[i] for i in rows]
        sources = None if self.sources is None else self.sources[index]
        return Pool(self.pictures[index], self.labels[index], self.truths[index], texts, groups, sources, prompts)

    def divide(self, share: float, seed: int) -> tuple["Pool", "Pool"]:
        """``share`` of the groups with all their judgements, and the rest; none is empty where there are two groups."""
        order = sorted(set(self.groups), key=lambda group: rng.key(seed, f"rewards/divide/{group}"))
        first = set(order[: min(max(1, round(share * len(order))), max(1, len(order) - 1))])
        sides = [[i for i, group in enumerate(self.groups) if (group in first) == wanted] for wanted in (True, False)]
        return self.part(sides[0]), self.part(sides[1])


def read_pool(judgements: Judgements, needs: Needs, reader: PromptReader, label: str) -> Pool:
    """Draw or open all pictures and read their prompts."""
    pictures, sources, prompts, texts, groups = [], [], [], [], []
    labels, truths = [], []
    with Progress(label, judgements.count, "pair") as progress:
        for start in range(0, judgements.count, CHUNK):
            chunk: list[Judgement] = [judgements.get(i) for i in range(start, min(start + CHUNK, judgements.count))]
            pictures.append(torch.stack([to_bytes(side) for side in zip(*(item.pictures for item in chunk), strict=True)], 1))
            if needs.source:
                sources.append(to_bytes([item.sources[0] for item in chunk]))
            if needs.prompt:
                prompts += reader([item.prompt for item in chunk], [item.sources for item in chunk])
            texts += [item.prompt for item in chunk]
            groups += [item.group or item.prompt for item in chunk]
            labels += [float(item.label) for item in chunk]
            truths += [torch.nan if item.truth is None else float(item.truth) for item in chunk]
            progress.update(len(chunk))
    found = torch.cat(sources) if sources else None
    return Pool(torch.cat(pictures), torch.tensor(labels), torch.tensor(truths), texts, groups, found, prompts or None)


@torch.no_grad()
def through_vae(pool: Pool, vae: VAE, share: float, noise: float, seed: int, label: str) -> Pool:
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
    return replace(pool, pictures=flat.view_as(pool.pictures))
