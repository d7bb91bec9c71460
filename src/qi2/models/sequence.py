"""The joint sequence (report eq. 1): text and reference images interleaved, the target last; batches of unequal samples, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from qi2.core.errors import QI2Error
from qi2.models import rope
from qi2.models.ragged import Ragged

TEXT = -1


@dataclass
class EncodedPrompt:
    """One sample's text hidden states (n, C) and its layout: numbers are runs of text tokens, ``None`` is the next image."""

    text: Tensor
    layout: list[int | None]


@dataclass
class Condition:
    """The conditions of a batch, one sample's T_i tokens after the other's; T is their sum.

    text (N, C): hidden states of all text tokens, in order; latents (M, 64): all reference latent tokens. order (T,): which of
    [text | latents] each token is. positions (T, 3): MSRoPE. until (T,): how many of its sample's tokens each reads (block-causal).
    target_start (B,): the position at which the target begins. sources: per sample, the latents (64, h, w) of its last reference, or None.
    """

    text: Tensor
    latents: Tensor
    order: Tensor
    positions: Tensor
    until: Tensor
    ragged: Ragged
    target_start: Tensor
    sources: list[Tensor | None] = field(default_factory=list)

    @property
    def is_image(self) -> Tensor:
        """(T,) whether a token is a reference image's."""
        return self.order >= len(self.text)


@dataclass
class Copyable:
    """Reference tokens of a batch: latents (B, L, 64), rotated keys (B, L, heads, d), and which of the L places hold one (B, L)."""

    latents: Tensor
    keys: Tensor
    present: Tensor

    @property
    def fixed(self) -> "Copyable":
        """The same without gradient."""
        return Copyable(self.latents, self.keys.detach(), self.present)

    def nothing(self, batch: int) -> "Copyable":
        """As many samples without references."""
        return Copyable(*(x.new_zeros(batch, 1, *x.shape[2:]) for x in (self.latents, self.keys, self.present)))

    def repeat(self, n: int) -> "Copyable":
        """Each sample n times in a row."""
        return Copyable(*(x.repeat_interleave(n, dim=0) for x in (self.latents, self.keys, self.present)))


@dataclass
class Prefix:
    """What the target reads of the condition: keys and values at every layer, each (B, L, heads, d).

    Where the condition depends on time or reads the target, there is nothing to keep but its embedded tokens (B, L, width), their
    positions (B, L, 3) and what they read, ``until`` (B, L).
    """

    ragged: Ragged
    target_start: Tensor
    sources: list[Tensor | None]
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    tokens: Tensor | None = None
    positions: Tensor | None = None
    until: Tensor | None = None
    copyable: Copyable | None = None
    elsewhere: bool = False  # another process's samples have references: what only those use takes part without effect, see `MMDiT.learn`

    def repeat(self, n: int) -> "Prefix":
        """Each sample n times in a row: several targets share one condition."""

        def again(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.repeat_interleave(n, dim=0)

        return replace(
            self,
            ragged=Ragged([length for length in self.ragged.lengths for _ in range(n)]),
            target_start=self.target_start.repeat_interleave(n, dim=0),
            sources=[source for source in self.sources for _ in range(n)],
            keys=[k.repeat_interleave(n, dim=0) for k in self.keys],
            values=[v.repeat_interleave(n, dim=0) for v in self.values],
            tokens=again(self.tokens),
            positions=again(self.positions),
            until=again(self.until),
            copyable=None if self.copyable is None else self.copyable.repeat(n),
        )

    @staticmethod
    def join(first: "Prefix", second: "Prefix") -> "Prefix":
        """Both batches as one, the second's samples after the first's."""

        def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return None if a is None or b is None else _stack(a, b)

        return Prefix(
            ragged=Ragged(first.ragged.lengths + second.ragged.lengths),
            target_start=torch.cat([first.target_start, second.target_start]),
            sources=first.sources + second.sources,
            keys=[_stack(a, b) for a, b in zip(first.keys, second.keys, strict=True)],
            values=[_stack(a, b) for a, b in zip(first.values, second.values, strict=True)],
            tokens=both(first.tokens, second.tokens),
            positions=both(first.positions, second.positions),
            until=both(first.until, second.until),
            copyable=_both_copyable(first, second),
        )

    @cached_property
    def has_sources(self) -> bool:
        """Whether any sample has a reference image."""
        return any(source is not None for source in self.sources)


def _both_copyable(first: Prefix, second: Prefix) -> Copyable | None:
    known = first.copyable or second.copyable
    if known is None:
        return None
    a, b = (p.copyable or known.nothing(len(p.ragged.lengths)) for p in (first, second))
    return Copyable(_stack(a.latents, b.latents), _stack(a.keys, b.keys), _stack(a.present, b.present))


def _stack(a: Tensor, b: Tensor) -> Tensor:
    """Batches (B, L, ...) of unequal L as one; the shorter is padded."""
    length = max(a.shape[1], b.shape[1])
    return torch.cat([F.pad(x, (0, 0) * (x.dim() - 2) + (0, length - x.shape[1])) for x in (a, b)])


@dataclass
class Targets:
    """Noisy target latents (64, h, w) of a batch, of one size or of several."""

    latents: list[Tensor] | Tensor

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width in latent tokens."""
        return [(int(x.shape[-2]), int(x.shape[-1])) for x in self.latents]

    @cached_property
    def ragged(self) -> Ragged:
        """The numbers of tokens."""
        return Ragged([height * width for height, width in self.sizes])

    def tokens(self, latents: list[Tensor] | Tensor) -> Tensor:
        """Latents of these sizes as tokens (..., 64), in raster order."""
        if isinstance(latents, Tensor):
            return latents.flatten(2).transpose(1, 2)
        return self.ragged.tokens(torch.cat([x.flatten(1).T for x in latents]))

    def positions(self, start: Tensor) -> Tensor:
        """MSRoPE positions (..., 3) of targets that begin at ``start`` (B,)."""
        grids = {size: rope.image_positions(0, *size) for size in set(self.sizes)}
        rows = torch.cat([grids[size] for size in self.sizes])
        frame = start[self.ragged.sample.to(start.device)]
        return self.ragged.tokens(torch.cat([frame[:, None], rows[:, 1:].to(start.device)], dim=1))

    def like_sources(self, sources: Sequence[Tensor | None]) -> Tensor:
        """The sources as tokens of the targets; zero where there is none or its shape is another's."""
        same = [torch.zeros_like(x) if s is None or s.shape != x.shape else s.to(x) for s, x in zip(sources, self.latents, strict=True)]
        return self.tokens(torch.stack(same) if isinstance(self.latents, Tensor) else same)

    def images(self, tokens: Tensor) -> list[Tensor] | Tensor:
        """Tokens (..., 64) as latents of these sizes, in the form that they came in."""
        if isinstance(self.latents, Tensor):
            return tokens.transpose(1, 2).unflatten(2, self.sizes[0])
        parts = tokens.flatten(0, 1).split(self.ragged.lengths)
        return [part.T.unflatten(1, size) for part, size in zip(parts, self.sizes, strict=True)]


def collate(prompts: Sequence[EncodedPrompt], latents: Sequence[Sequence[Tensor]]) -> Condition:
    """Lay out prompts and their reference latents (each (64, h, w)), sample after sample."""
    rows = [_layout(p, images) for p, images in zip(prompts, latents, strict=True)]
    lengths = [len(kinds) for kinds, _, _, _ in rows]
    is_text = torch.cat([kinds for kinds, _, _, _ in rows]) == TEXT
    tokens = [image.flatten(1).T for images in latents for image in images]
    text = torch.cat([p.text for p in prompts])
    order = torch.where(is_text, is_text.cumsum(0) - 1, len(text) + (~is_text).cumsum(0) - 1)
    return Condition(
        text=text,
        latents=torch.cat(tokens) if tokens else text.new_zeros(0, 1),
        order=order,
        positions=torch.cat([positions for _, positions, _, _ in rows]),
        until=torch.cat([until for _, _, until, _ in rows]),
        ragged=Ragged(lengths),
        target_start=torch.tensor([start for _, _, _, start in rows]),
        sources=[images[-1] if len(images) else None for images in latents],
    )


def _layout(prompt: EncodedPrompt, images: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, int]:
    """Token kinds (-1 text, k image k), positions, what each token reads, and where the target starts, of one sample."""
    places = prompt.layout.count(None)
    if places != len(images):
        raise QI2Error(f"the prompt has places for {places} images but {len(images)} references were given; encode it with the same references")
    kinds, positions, until, at, used, length = [], [], [], 0, 0, 0
    for run in prompt.layout:
        if run is None:
            _, height, width = images[used].shape
            n = height * width
            kinds.append(torch.full((n,), used))
            positions.append(rope.image_positions(at, height, width))
            until.append(torch.full((n,), length + n))
            at, used = at + max(height, width), used + 1
        else:
            n = run
            kinds.append(torch.full((n,), TEXT))
            positions.append(rope.text_positions(at, n))
            until.append(torch.arange(length + 1, length + n + 1))
            at += n
        length += n
    return torch.cat(kinds), torch.cat(positions), torch.cat(until), at
