"""Parts of the MMDiT (report section 3.2, Figure 8): norms, QK-RMSNorm attention, SwiGLU, the block and its modulation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qi2.models import rope
from qi2.models.attention import KeysValues, Sight
from qi2.models.config import MMDiTConfig

VARIANTS = 32  # that torch.compile may make of one part
FP16_LIMIT = 65504.0  # what the residual stream of a block may grow to in half precision


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the last axis, in fp32. ``zero_centered``: the weight holds scale - 1."""

    def __init__(self, width: int, eps: float, zero_centered: bool = False) -> None:
        super().__init__()
        self.eps, self.zero_centered = eps, zero_centered
        self.weight = nn.Parameter(torch.zeros(width) if zero_centered else torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.float() + 1 if self.zero_centered else self.weight.float()
        return F.rms_norm(x.float(), x.shape[-1:], scale, self.eps).to(x.dtype)


def scaled_layer_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LayerNorm without parameters, times ``scale`` of (1, 1, width) or broadcastable to x."""
    if scale.numel() == x.shape[-1]:
        return F.layer_norm(x, x.shape[-1:], scale.flatten(), eps=eps)
    return F.layer_norm(x, x.shape[-1:], eps=eps) * scale


class TextProjection(nn.Module):
    """Hidden states of the condition encoder (N, C) to tokens (N, width): zero-centred RMSNorm, then a bias-free MLP."""

    def __init__(self, context_width: int, width: int, eps: float) -> None:
        super().__init__()
        self.norm = RMSNorm(context_width, eps, zero_centered=True)
        self.in_layer = nn.Linear(context_width, width, bias=False)
        self.out_layer = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_layer(F.gelu(self.in_layer(self.norm(x)), approximate="tanh"))


class TimestepEmbedding(nn.Module):
    """t (B,) in [0, 1] to (B, width): sinusoids of 1000 t in fp32, then a bias-free MLP."""

    def __init__(self, width: int, channels: int = 256) -> None:
        super().__init__()
        self.channels = channels
        self.linear_1 = nn.Linear(channels, width, bias=False)
        self.linear_2 = nn.Linear(width, width, bias=False)

    def forward(self, t: Tensor) -> Tensor:
        half = self.channels // 2
        frequencies = torch.exp(-torch.log(torch.tensor(1e4)) * torch.arange(half) / half).to(t.device)
        angles = 1000 * t.float()[:, None] * frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(waves)))


@dataclass
class Modulation:
    """Factors of the tokens, each broadcastable to (..., width): scales of both branches, and their gates (1 without gates)."""

    scale1: Tensor
    gate1: Tensor | None
    scale2: Tensor
    gate2: Tensor | None

    @staticmethod
    def of(rows: Tensor, gates: bool, spread: Callable[[Tensor], Tensor]) -> "Modulation":
        """From rows (B, 4 width); ``spread`` carries (B, width) to the tokens."""
        scale1, gate1, scale2, gate2 = rows.chunk(4, dim=-1)
        gate = [spread(g.tanh()) if gates else None for g in (gate1, gate2)]
        return Modulation(spread(1 + scale1), gate[0], spread(1 + scale2), gate[1])


class SwiGLU(nn.Module):
    """Phi1(x) * SiLU(Phi2(x)), then a projection back (report eq. 3)."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.proj = nn.Linear(width, hidden, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.silu(self.gate(x)) * self.proj(x))


class Attention(nn.Module):
    """Projections of multi-head attention with QK-RMSNorm before the rotation; no biases."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(width // heads, eps), RMSNorm(width // heads, eps)

    def queries(self, x: Tensor, rotation: Tensor) -> Tensor:
        """Rotated queries (..., heads, d) of x (..., width)."""
        return rope.rotate(self.norm_q(self.to_q(x).unflatten(-1, (self.heads, -1))), rotation)

    def keys_values(self, x: Tensor, rotation: Tensor) -> KeysValues:
        """Rotated keys and values, each (..., heads, d), of x (..., width)."""
        k, v = self.to_k(x).unflatten(-1, (self.heads, -1)), self.to_v(x).unflatten(-1, (self.heads, -1))
        return rope.rotate(self.norm_k(k), rotation), v


class Block(nn.Module):
    """x + tanh(g1) Attn(LN(x) s1); x + tanh(g2) SwiGLU(LN(x) s2): multiplicative modulation without shift (report eq. 2)."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads, config.eps)
        self.mlp = SwiGLU(config.width, config.mlp_ratio)
        self.eps, self.compiled = config.eps, config.compile
        self.modulation = None if config.shared_modulation else nn.Linear(config.width, 4 * config.width, bias=False)

    def forward(self, x: Tensor, modulation: Modulation, rotation: Tensor, sight: Sight, past: KeysValues | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x (..., width); ``past`` keys and values are read beside x's own. Returns x and its keys and values (..., heads, d)."""
        project, finish = (_compiled("project"), _compiled("finish")) if self.compiled else (Block.project, Block.finish)
        q, k, v = project(self, x, modulation.scale1, rotation)
        return finish(self, x, sight(q, k, v, past), modulation.gate1, modulation.scale2, modulation.gate2), k, v

    def project(self, x: Tensor, scale: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x: all before attention."""
        x = scaled_layer_norm(x, scale, self.eps)
        return self.attention.queries(x, rotation), *self.attention.keys_values(x, rotation)

    def finish(self, x: Tensor, attended: Tensor, gate1: Tensor | None, scale2: Tensor, gate2: Tensor | None) -> Tensor:
        """All after attention: its gated change of x, then the MLP's."""
        change = self.attention.to_out(attended)
        x = x + change if gate1 is None else torch.addcmul(x, gate1, change)
        change = self.mlp(scaled_layer_norm(x, scale2, self.eps))
        x = x + change if gate2 is None else torch.addcmul(x, gate2, change)
        return x.clip(-FP16_LIMIT, FP16_LIMIT) if x.dtype == torch.float16 else x

    def keys_values(self, x: Tensor, modulation: Modulation, rotation: Tensor) -> KeysValues:
        """The keys and values that `forward` makes of x (..., width)."""
        return self.attention.keys_values(scaled_layer_norm(x, modulation.scale1, self.eps), rotation)


@cache
def _compiled(part: str) -> Callable[..., Any]:
    """A part of the block, compiled once for all blocks; condition and target, training and sampling are variants of it."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)
    return torch.compile(getattr(Block, part), dynamic=True)
