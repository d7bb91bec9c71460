"""Sequences of unequal length in one batch, without padding where it would cost.

Linear layers and norms see the tokens of all samples one after the other, ``(1, T, ...)``; attention sees them padded to the longest,
``(B, L, ...)``. Where all samples are equally long both are one ``(B, L, ...)`` tensor and nothing is moved.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


class Ragged:
    """Lengths of a batch's sequences, and the ways between its two forms."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)
        self.batch, self.longest, self.total = len(self.lengths), max(self.lengths), sum(self.lengths)
        self.uniform = self.total == self.batch * self.longest

    @cached_property
    def sample(self) -> Tensor:
        """(T,) index of the sample that each token belongs to."""
        return torch.from_numpy(np.repeat(np.arange(self.batch), self.lengths))

    @cached_property
    def valid(self) -> Tensor:
        """(B, L) whether there is a token."""
        return torch.arange(self.longest) < torch.tensor(self.lengths)[:, None]

    @cached_property
    def _packed(self) -> Tensor:
        """(B * L,) the token of each padded place; at a padding, any."""
        return (self.valid.flatten().cumsum(0) - 1).clamp(min=0)

    @cached_property
    def _padded(self) -> Tensor:
        """(T,) the padded place of each token."""
        return self.valid.flatten().nonzero()[:, 0]

    def tokens(self, packed: Tensor) -> Tensor:
        """(T, ...) to the form of the linear layers."""
        return packed.unflatten(0, (self.batch, self.longest)) if self.uniform else packed[None]

    def pad(self, tokens: Tensor) -> Tensor:
        """The form of the linear layers to (B, L, ...); paddings repeat some token."""
        if self.uniform:
            return tokens
        return tokens[0].index_select(0, self._packed.to(tokens.device)).unflatten(0, (self.batch, self.longest))

    def unpad(self, padded: Tensor) -> Tensor:
        """(B, L, ...) to the form of the linear layers."""
        if self.uniform:
            return padded
        return padded.flatten(0, 1).index_select(0, self._padded.to(padded.device))[None]

    def spread(self, rows: Tensor) -> Tensor:
        """One row per sample (B, ...), or one for all (1, ...), to a tensor that broadcasts over the tokens."""
        if self.uniform or len(rows) == 1:
            return rows[:, None]
        return rows.index_select(0, self.sample.to(rows.device))[None]
