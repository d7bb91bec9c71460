"""What an MMDiT with a `CopyHead` learns from an edit: which tokens to repeat, and the velocity of those to draw (ours)."""

import torch
from torch import Tensor

from qi2.models import flow
from qi2.models.copying import NEVER
from qi2.models.sequence import Copyable

TOLERANCE = 0.05  # root mean square over channels up to which two latents show the same; at `tiny`, equal patches lie below 0.02, others above 0.2
HEAD = 0.2  # weight of the head's loss beside the velocity's
DRAWN = 8.0  # how much more a token to be drawn counts for the head: to draw what could be copied costs little, to copy what should change loses the edit
REPEATED = 0.1  # weight of the velocity of tokens that are to be repeated: it is hardly used


def copying_losses(drawn: Tensor, choice: Tensor, x0: Tensor, noise: Tensor, copyable: Copyable, valid: Tensor) -> Tensor:
    """Each sample's weighted mean squared error of the drawn velocity plus the head's negative log-likelihood, (B,).

    drawn (B, N, 64): velocity, and choice (B, N, 1 + L), as `MMDiT.predict` gives them; x0, noise: (B, N, 64). valid (B, N): where there
    is a token. Every token to be drawn counts the same, whatever its sample: the weights are normalised over the batch at hand.
    """
    right = repeated(x0, copyable)
    repeats = right.any(dim=-1)
    error = (drawn - flow.velocity(x0, noise)).square().mean(dim=-1)
    weight = torch.where(repeats, REPEATED, 1.0) * valid
    missed = -choice.masked_fill(~torch.cat([~repeats[..., None], right], dim=-1), NEVER).logsumexp(dim=-1)
    head = (missed * torch.where(repeats, 1.0, DRAWN) * valid).sum(dim=1) / valid.sum(dim=1)
    return (error * weight).sum(dim=1) * len(weight) / weight.sum() + HEAD * head


def repeated(x0: Tensor, copyable: Copyable) -> Tensor:
    """(B, N, L): which reference tokens show what a target token of x0 (B, N, 64) shows."""
    distance = torch.cdist(x0, copyable.latents) / x0.shape[-1] ** 0.5
    return (distance < TOLERANCE) & copyable.present[:, None]
