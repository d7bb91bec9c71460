"""Copying from reference images, token by token (ours; a pointer network, Vinyals et al., 2015): off unless `MMDiTConfig.copy_head`.

A target token may show exactly what some reference token shows. The head says which one, if any, and the velocity then points straight
at that latent, so that what an edit leaves alone, or moves, does not have to pass through the width of a small model.
"""

import torch
from torch import Tensor, nn

from qi2.models import flow, rope
from qi2.models.sequence import Copyable

SHORTEST = 0.05  # the least time that the remaining way to a copied latent is spread over, so that the velocity stays bounded
NEVER = -1e4


class CopyHead(nn.Module):
    """For every target token, log-probabilities of (B, N, 1 + L): draw it, or repeat reference token l."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.draw = nn.Linear(width, 1)

    def keys(self, x: Tensor, rotation: Tensor) -> Tensor:
        """(..., heads, d) of condition tokens (..., width)."""
        return rope.rotate(self.to_k(x).unflatten(-1, (self.heads, -1)), rotation)

    def forward(self, x: Tensor, rotation: Tensor, copyable: Copyable) -> Tensor:
        """x (B, N, width) of the target, before the output projection."""
        q = rope.rotate(self.to_q(x).unflatten(-1, (self.heads, -1)), rotation)
        scores = torch.einsum("bnhd,blhd->bnl", q, copyable.keys) / x.shape[-1] ** 0.5
        scores = scores.masked_fill(~copyable.present[:, None], NEVER)
        return torch.cat([self.draw(x), scores], dim=-1).log_softmax(dim=-1)


def compose(v: Tensor, x_t: Tensor, t: Tensor, choice: Tensor, latents: Tensor) -> Tensor:
    """The drawn velocity v and the way to the chosen latents, both (B, N, 64), in the proportions of ``choice`` (B, N, 1 + L)."""
    p = choice.exp()
    copied = p[..., :1].neg() + 1
    return (1 - copied) * v + (copied * x_t - p[..., 1:] @ latents) / flow.expand(t, v).clamp(min=SHORTEST)
