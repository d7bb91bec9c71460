"""The projector through which an MMDiT's hidden states are compared with vision features (REPA, Yu et al., 2024).

It is state of the training, not of the model: saved in checkpoints and sharded beside the network, and left behind when the model is published.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.models.sequence import Targets
from qi2.objectives.alignment import token_alignment_losses
from qi2.training.config import AlignmentConfig


class Aligner(nn.Module):
    """Three layers with SiLU between them, as REPA's, from the MMDiT's width to that of the features.

    Raises QI2Error where the model has no such block.
    """

    def __init__(self, config: AlignmentConfig, layers: int, width: int, features: int, seed: int) -> None:
        super().__init__()
        if not 0 <= config.block <= layers:
            raise QI2Error(f"alignment.block is {config.block}, but the model has {layers} blocks; choose 1 to {layers}, or 0 for half of them")
        self.weight, self.block = config.weight, config.block or max(1, layers // 2)
        hidden = config.width or 4 * width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rng.key(seed, "aligner/init"))
            self.net = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, features))

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., width) to (..., features)."""
        projected: Tensor = self.net(hidden)
        return projected

    def losses(self, hidden: Tensor, features: Sequence[Tensor], targets: Targets) -> Tensor:
        """1 - cosine of every sample (B,). hidden (..., width): of the targets' tokens; features: each (C, h, w) on its target's grid."""
        own = targets.ragged
        wanted = targets.tokens(torch.stack(list(features)) if isinstance(targets.latents, Tensor) else list(features))
        return token_alignment_losses(own.pad(self(hidden)), own.pad(wanted.to(hidden.device)), own.valid.to(hidden.device))
