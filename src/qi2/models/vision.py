"""Faster parts for the vision tower of a Qwen3-VL of transformers: same weights, same names, same results up to rounding.

A still image fills both frames of the patch embedding's convolution, so one matrix product with the kernel's sum over time does;
and images with equally many patches attend in one batch instead of one after the other.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StillPatchEmbed(nn.Module):
    """Patch embedding (N, 3 * T * P * P) -> (N, C) of still images, whose T frames are all the same."""

    def __init__(self, embed: Any) -> None:
        super().__init__()
        self.proj = embed.proj

    def forward(self, patches: Tensor) -> Tensor:
        channels, frames = self.proj.in_channels, self.proj.kernel_size[0]
        first = patches.view(len(patches), channels, frames, -1)[:, :, 0].flatten(1)
        return F.linear(first.to(self.proj.weight.dtype), self.proj.weight.sum(2).flatten(1), self.proj.bias)


class BatchedAttention(nn.Module):
    """Attention within every image; one batch where all images have the same number of patches."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads = attention.qkv, attention.proj, attention.num_heads
        self._one_by_one = (attention,)  # in a tuple, so that its weights are not registered twice

    def forward(self, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings: tuple[Tensor, Tensor], **options: Any) -> Tensor:
        from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision

        lengths = cu_seqlens.diff()
        if not bool((lengths == lengths[0]).all()):
            return self._one_by_one[0](hidden_states, cu_seqlens=cu_seqlens, position_embeddings=position_embeddings, **options)
        q, k, v = self.qkv(hidden_states).unflatten(1, (3, self.heads, -1)).unbind(1)
        q, k = apply_rotary_pos_emb_vision(q, k, *position_embeddings)
        q, k, v = (x.unflatten(0, (len(lengths), -1)).transpose(1, 2) for x in (q, k, v))
        mixed: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).flatten(0, 1))
        return mixed


def speed_up(visual: Any) -> Any:
    """Replace the slow parts of a vision tower for still images, in place, unless that is done already; returns it."""
    if not isinstance(visual.patch_embed, StillPatchEmbed):
        visual.patch_embed = StillPatchEmbed(visual.patch_embed)
        for block in visual.blocks:
            block.attn = BatchedAttention(block.attn)
    return visual


def to_patches(images: Tensor, patch: int, merge: int, frames: int) -> Tensor:
    """Images (B, 3, H, W) to what the tower reads, (B * H/P * W/P, 3 * T * P * P): slot after slot, each patch in all its frames."""
    batch, channels, height, width = images.shape
    side = patch * merge
    patches = images.reshape(batch, channels, height // side, merge, patch, width // side, merge, patch)
    patches = patches.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    return patches.expand(*patches.shape[:6], frames, *patches.shape[7:]).reshape(-1, channels * frames * patch**2)


def grids(images: Tensor, patch: int) -> Tensor:
    """(B, 3): frames, rows and columns of patches of every image (B, 3, H, W)."""
    size = [1, images.shape[2] // patch, images.shape[3] // patch]
    return torch.tensor([size] * len(images), device=images.device)
