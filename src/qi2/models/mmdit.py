"""The single-stream MMDiT (report section 3.2, Figure 8), with the block-causal layout of the open Qwen-Image-2.1.

One set of blocks processes text, reference images and the target. The condition (text and references, interleaved) is
modulated at t = 0 and never sees the target, so its keys and values do not depend on t: they are computed once per sample
(`encode_condition`) and read by every target token (`forward`). Training and sampling use the same two calls.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qi2.models import rope
from qi2.models.config import MMDiTConfig
from qi2.models.storage import load_network, save_network


@dataclass
class Condition:
    """A padded batch of condition sequences; padding is masked, so a sample's result does not depend on its batch.

    text (N, C): hidden states of all text tokens of the batch, in order; latents (M, 64): all reference latent tokens.
    is_text, is_image, (B, L): where those go. positions (B, L, 3). block (B, L): image blocks have ids >= 0, text -1.
    target_start (B,): the running MSRoPE position at which the target begins.
    sources: per sample, the latents (64, h, w) of its last reference, or None; for `image_shortcut`.
    """

    text: Tensor
    latents: Tensor
    is_text: Tensor
    is_image: Tensor
    positions: Tensor
    block: Tensor
    target_start: Tensor
    sources: list[Tensor | None] = field(default_factory=list)

    @property
    def mask(self) -> Tensor:
        """(B, L, L) attention among condition tokens: causal, bidirectional inside one image, padding hidden."""
        valid = self.is_text | self.is_image
        causal = torch.ones(valid.shape[1], valid.shape[1], dtype=torch.bool).tril()
        same_image = (self.block[:, :, None] == self.block[:, None, :]) & self.is_image[:, :, None] & self.is_image[:, None, :]
        return (causal | same_image) & valid[:, None, :]


@dataclass
class Prefix:
    """Keys and values (B, heads, L, d) of the condition at every layer, the key mask (B, L), and where the target begins."""

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor
    target_start: Tensor
    sources: list[Tensor | None] = field(default_factory=list)

    def repeat(self, n: int) -> "Prefix":
        """Each sample n times in a row: several targets share one condition."""

        def again(x: Tensor) -> Tensor:
            return x.repeat_interleave(n, dim=0)

        sources = [source for source in self.sources for _ in range(n)]
        return Prefix([again(k) for k in self.keys], [again(v) for v in self.values], again(self.mask), again(self.target_start), sources)

    def sources_like(self, x: Tensor) -> Tensor:
        """The sources of a target's shape (B, 64, h, w); zero where there is none or its shape is another."""
        empty = torch.zeros_like(x[0])
        return torch.stack([empty if s is None or s.shape != empty.shape else s.to(x) for s in self.sources])


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """RMSNorm over the last axis, in fp32."""
    return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps).to(x.dtype)


def layer_norm(x: Tensor) -> Tensor:
    """LayerNorm without parameters (Figure 8: all norms but the QK-norm)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


class ZeroCenteredRMSNorm(nn.Module):
    """RMSNorm whose scale is 1 + weight, weight starting at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, 1 + self.weight)


class TimestepEmbedding(nn.Module):
    """t (B,) in [0, 1] to (B, width): sinusoids of 1000 t, then a bias-free MLP."""

    def __init__(self, width: int, channels: int = 256) -> None:
        super().__init__()
        self.channels = channels
        self.linear_1 = nn.Linear(channels, width, bias=False)
        self.linear_2 = nn.Linear(width, width, bias=False)

    def forward(self, t: Tensor) -> Tensor:
        half = self.channels // 2
        angles = 1000 * t.float()[:, None] * torch.exp(-torch.log(torch.tensor(1e4)) * torch.arange(half) / half).to(t.device)
        return self.linear_2(F.silu(self.linear_1(torch.cat([angles.cos(), angles.sin()], dim=-1))))


class SwiGLU(nn.Module):
    """Phi1(x) * SiLU(Phi2(x)), then a projection back (report eq. 3)."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.proj_gate = nn.Linear(width, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        proj, gate = self.proj_gate(x).chunk(2, dim=-1)
        return self.out(proj * F.silu(gate))


class Attention(nn.Module):
    """Multi-head attention with QK-RMSNorm before the rotation; no biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)
        self.norm_q = nn.Parameter(torch.ones(width // heads))
        self.norm_k = nn.Parameter(torch.ones(width // heads))

    def qkv(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, L, width) to rotated queries, rotated keys and values, each (B, heads, L, d)."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return rope.rotate(rms_norm(q, self.norm_q), cos, sin), rope.rotate(rms_norm(k, self.norm_k), cos, sin), v

    def kv(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of `qkv` alone."""
        width = x.shape[-1]
        k, v = F.linear(x, self.to_qkv.weight[width:]).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return rope.rotate(rms_norm(k, self.norm_k), cos, sin), v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """(B, heads, Lq, d) queries over (B, heads, Lk, d) to (B, Lq, width)."""
        return self.to_out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x + tanh(g1) Attn(LN(x) s1); x + tanh(g2) SwiGLU(LN(x) s2): multiplicative modulation without shift (report eq. 2)."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads)
        self.mlp = SwiGLU(config.width, config.mlp_ratio)
        self.gates = config.gates

    def forward(
        self, x: Tensor, modulation: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, L, width), modulation (B, 1, 4 width); ``past`` keys and values come before x's own. Returns x, keys, values."""
        scale1, gate1, scale2, gate2 = modulation.chunk(4, dim=-1)
        q, k, v = self.attention.qkv(layer_norm(x) * (1 + scale1), *angles)
        all_k, all_v = (k, v) if past is None else (torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2))
        change = self.attention.attend(q, all_k, all_v, mask)
        x = x + (torch.tanh(gate1) * change if self.gates else change)
        change = self.mlp(layer_norm(x) * (1 + scale2))
        return x + (torch.tanh(gate2) * change if self.gates else change), k, v

    def kv(self, x: Tensor, modulation: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The keys and values that `forward` makes of x (B, L, width)."""
        return self.attention.kv(layer_norm(x) * (1 + modulation.chunk(4, dim=-1)[0]), *angles)


class MMDiT(nn.Module):
    """Predicts the velocity of target latents under a condition of text and reference images."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        if sum(config.rope_axes) != config.width // config.heads:
            raise ValueError(f"mmdit.rope_axes {config.rope_axes} must sum to width / heads = {config.width // config.heads}")
        self.config = config
        width = config.width
        self.img_in = nn.Linear(config.latent_channels, width, bias=False)
        self.txt_norm = ZeroCenteredRMSNorm(config.context_width)
        self.txt_in = nn.Sequential(nn.Linear(config.context_width, width, bias=False), nn.GELU("tanh"), nn.Linear(width, width, bias=False))
        self.time_in = TimestepEmbedding(width)
        self.modulation = nn.Linear(width, 4 * width, bias=False)  # one projection, shared by all blocks
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm_out = nn.Linear(width, width, bias=False)
        self.proj_out = nn.Linear(width, config.latent_channels, bias=False)
        if config.image_shortcut:
            self.source_in = nn.Linear(config.latent_channels, width, bias=False)
            nn.init.zeros_(self.source_in.weight)
        if config.places:
            self.place_in = nn.Linear(4 * rope.PLACE_WAVES, width, bias=False)
        self.freqs = rope.frequencies(config.rope_axes, config.rope_theta)
        self._start_quietly()

    def _start_quietly(self) -> None:
        """Modulation starts near one and the output at zero, so that the first steps are stable (ours)."""
        nn.init.normal_(self.modulation.weight, std=0.02)
        nn.init.normal_(self.norm_out.weight, std=0.02)
        nn.init.zeros_(self.proj_out.weight)

    def _modulations(self, t: Tensor) -> tuple[Tensor, Tensor]:
        embedding = F.silu(self.time_in(t))[:, None]
        return self.modulation(embedding), embedding

    def _angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = rope.rotation(positions, [f.to(positions.device) for f in self.freqs])
        return cos[:, None], sin[:, None]

    def encode_condition(self, condition: Condition) -> Prefix:
        """Keys and values of the condition at every layer, with modulation at t = 0."""
        batch, length = condition.is_text.shape
        x = self.proj_out.weight.new_zeros(batch, length, self.config.width)
        x = x.masked_scatter(condition.is_text[..., None], self.txt_in(self.txt_norm(condition.text)))
        x = x.masked_scatter(condition.is_image[..., None], self.img_in(condition.latents))
        if self.config.places:
            x = x + condition.is_image[..., None] * self.place_in(rope.place_features(condition.positions))
        modulation, _ = self._modulations(torch.zeros(1, device=x.device))
        angles, mask = self._angles(condition.positions), condition.mask[:, None]
        keys, values = [], []
        for block in self.blocks[:-1]:
            x, k, v = block(x, modulation, angles, mask, None)
            keys.append(k)
            values.append(v)
        last = cast(Block, self.blocks[-1])  # nothing reads what it would make of the condition, beyond keys and values
        k, v = last.kv(x, modulation, angles)
        keys.append(k)
        values.append(v)
        return Prefix(keys, values, condition.is_text | condition.is_image, condition.target_start, condition.sources)

    def forward(self, x_t: Tensor, t: Tensor, prefix: Prefix) -> Tensor:
        """Velocity (B, 64, h, w) of noisy target latents x_t (B, 64, h, w) at times t (B,) in [0, 1]."""
        batch, _, height, width = x_t.shape
        positions = rope.image_positions(0, height, width).to(x_t.device).expand(batch, -1, -1).clone()
        positions[..., 0] = prefix.target_start[:, None]
        x = self.img_in(x_t.flatten(2).transpose(1, 2))
        if self.config.places:
            x = x + self.place_in(rope.place_features(positions))
        if self.config.image_shortcut and any(source is not None for source in prefix.sources):
            x = x + self.source_in(prefix.sources_like(x_t).flatten(2).transpose(1, 2))
        modulation, embedding = self._modulations(t)
        angles = self._angles(positions)
        own = prefix.mask.new_ones(batch, height * width)
        mask = torch.cat([prefix.mask, own], dim=1)[:, None, None]
        for block, k, v in zip(self.blocks, prefix.keys, prefix.values, strict=True):
            x, _, _ = block(x, modulation, angles, mask, (k, v))
        x = self.proj_out(layer_norm(x) * (1 + self.norm_out(embedding)))
        return x.transpose(1, 2).unflatten(2, (height, width))

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        save_network(self, self.config, folder)

    @classmethod
    def load(cls, folder: Path) -> "MMDiT":
        """Read a folder written by `save`."""
        return load_network(cls, MMDiTConfig, folder)
