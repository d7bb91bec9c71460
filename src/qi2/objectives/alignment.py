"""Alignment of hidden states to a frozen network's features of the clean picture (REPA, Yu et al., 2024)."""

from torch import Tensor
from torch.nn import functional as F


def token_alignment_losses(projected: Tensor, features: Tensor, valid: Tensor) -> Tensor:
    """1 - cosine, the mean over each sample's own tokens (B,). projected, features: (B, N, C); valid (B, N): where there is a token."""
    cosine = F.cosine_similarity(projected.float(), features.float(), dim=-1)
    return ((1 - cosine) * valid).sum(dim=1) / valid.sum(dim=1)
