"""Attention over what each query may read, by the kernel that suits the machine and the batch.

In this model every query reads a run of keys that starts at its sample's first: text up to itself, an image's token up to its image's
end, a target token everything. So one number per query, ``until``, says all, and no dense mask is ever needed for long sequences.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from qi2.models.ragged import Ragged

DENSE = 1 << 24  # entries of the largest boolean mask that is written out
TILE = 128  # tokens per side of the blocks that flex_attention skips or computes

KeysValues = tuple[Tensor, Tensor]


class Sight:
    """What the tokens of a pass read. ``until`` (B, Lq) or (B, 1): keys [0, until) of the sample, out of ``keys``.

    ``kernel``: ``auto``, or one of `KERNELS`; ``dense``, ``runs`` and ``flex`` fit every batch and give the same result. ``order``
    (B, Lk) sorts [own | past] keys so that those to be read come first.
    """

    def __init__(self, tokens: Ragged, until: Tensor, keys: int, device: torch.device, kernel: str = "auto", order: Tensor | None = None) -> None:
        self.tokens, self.keys, self.device = tokens, keys, device
        self.kernel = self._choose(until) if kernel == "auto" else kernel
        self.until, self.order = until, order

    @staticmethod
    def within(tokens: Ragged, until: Tensor, device: torch.device, kernel: str = "auto") -> "Sight":
        """Tokens that read each other; ``until`` (B, L)."""
        return Sight(tokens, until, tokens.longest, device, kernel)

    @staticmethod
    def over(own: Ragged, past: Ragged, device: torch.device, kernel: str = "auto") -> "Sight":
        """Tokens that read all of each other and of their sample's past, which attention sees as [own | past]."""
        until = torch.tensor([[a + b] for a, b in zip(own.lengths, past.lengths, strict=True)])
        order = None if own.uniform else torch.cat([own.valid, past.valid], dim=1).to(torch.int8).argsort(dim=1, descending=True, stable=True)
        return Sight(own, until, own.longest + past.longest, device, kernel, order)

    def _choose(self, until: Tensor) -> str:
        """No mask, a causal one, block-sparse on a GPU, a small dense mask, or run by run."""
        if bool((until == self.keys).all()):
            return "full"
        if until.shape[1] == self.keys and bool((until == torch.arange(1, self.keys + 1))[self.tokens.valid].all()):
            return "causal"
        if self.device.type == "cuda":
            return "flex"
        return "dense" if until.numel() * self.keys <= DENSE else "runs"

    @cached_property
    def mask(self) -> Tensor:
        """(B, 1, Lq, Lk) or (B, 1, 1, Lk)."""
        return (torch.arange(self.keys) < self.until[..., None])[:, None].to(self.device)

    @cached_property
    def runs(self) -> list[list[tuple[int, int, int, bool]]]:
        """Per sample, queries [start, stop) that read the same keys [0, until), or (True) each one key more than the query before."""
        return [_runs(row[:n].tolist()) for row, n in zip(self.until.expand(-1, self.tokens.longest), self.tokens.lengths, strict=True)]

    @cached_property
    def blocks(self) -> Any:
        """flex_attention's BlockMask, from the bounds of each block of queries alone."""
        return _block_mask(self.until.expand(-1, self.tokens.longest).to(self.device), self.keys)

    @cached_property
    def _flat_order(self) -> Tensor | None:
        return None if self.order is None else (self.order + torch.arange(len(self.order))[:, None] * self.keys).flatten().to(self.device)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, past: KeysValues | None = None) -> Tensor:
        """q, k, v (..., heads, d) of the tokens, past (B, Lp, heads, d) each; returns the tokens' (..., heads * d)."""
        q, k, v = self.tokens.pad(q), self.tokens.pad(k), self.tokens.pad(v)
        if past is not None:
            k, v = (self._arrange(torch.cat([own, before], dim=1)) for own, before in zip((k, v), past, strict=True))
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        return self.tokens.unpad(KERNELS[self.kernel](q, k, v, self).transpose(1, 2).flatten(2))

    def _arrange(self, keys: Tensor) -> Tensor:
        """[own | past] with what is valid in front, where the samples' own lengths differ."""
        if self._flat_order is None:
            return keys
        return keys.flatten(0, 1).index_select(0, self._flat_order).unflatten(0, keys.shape[:2])


def _runs(until: list[int]) -> list[tuple[int, int, int, bool]]:
    runs: list[tuple[int, int, int, bool]] = []
    start = 0
    for i in range(1, len(until) + 1):
        step = until[start + 1] - until[start] if start + 1 < len(until) else 0
        if i < len(until) and until[i] - until[i - 1] == step and step in (0, 1):
            continue
        runs.append((start, i, until[i - 1], i - start > 1 and step == 1))
        start = i
    return runs


def _full(q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def _causal(q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)  # paddings stand last, where no query looks


def _dense(q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=sight.mask)


def _by_runs(q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> Tensor:
    """One call per sample and run, each on no more keys than it reads."""
    samples = []
    for i, runs in enumerate(sight.runs):
        parts = []
        for start, stop, until, causal in runs:
            triangle = torch.ones(stop - start, until, dtype=torch.bool, device=q.device).tril(until - (stop - start)) if causal else None
            parts.append(F.scaled_dot_product_attention(q[i : i + 1, :, start:stop], k[i : i + 1, :, :until], v[i : i + 1, :, :until], attn_mask=triangle))
        samples.append(F.pad(torch.cat(parts, dim=2), (0, 0, 0, q.shape[2] - sight.tokens.lengths[i])))
    return torch.cat(samples)


def _flex(q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> Tensor:
    """Block-sparse: blocks that no query reads are skipped. Compiled on a GPU; elsewhere its plain form, for tests."""
    return _flex_attention(q.is_cuda)(q, k, v, block_mask=sight.blocks)


def _flex_attention(compiled: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    if not compiled:
        return flex_attention  # type: ignore[return-value]
    if "flex" not in _COMPILED:
        _COMPILED["flex"] = torch.compile(flex_attention, dynamic=True)
    return _COMPILED["flex"]


_COMPILED: dict[str, Callable[..., Tensor]] = {}


def _block_mask(until: Tensor, keys: int) -> Any:
    from torch.nn.attention.flex_attention import BlockMask

    batch, length = until.shape
    columns, device = -(-keys // TILE), until.device
    tiles = F.pad(until, (0, -length % TILE), value=0).unflatten(1, (-1, TILE))
    filled = torch.where(torch.arange(tiles.shape[1] * TILE, device=device).view(tiles.shape[1:]) < length, tiles, keys)
    whole = filled.amin(dim=2) // TILE  # so many blocks of keys are read by every query of the tile
    touched = (tiles.amax(dim=2) + TILE - 1) // TILE
    ladder = torch.arange(columns, device=device).expand(batch, 1, tiles.shape[1], columns)
    partial = (ladder + whole[:, None, :, None]).clamp(max=columns - 1)
    counts = [(touched - whole)[:, None].int(), whole[:, None].int()]

    def visible(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k < until[b, q.clamp(max=length - 1)]

    return BlockMask.from_kv_blocks(counts[0], partial.int(), counts[1], ladder.int().contiguous(), TILE, visible, seq_lengths=(length, keys))


KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, Sight], Tensor]] = {
    "full": _full,
    "causal": _causal,
    "dense": _dense,
    "runs": _by_runs,
    "flex": _flex,
}
