"""The vision tower of the Qwen3-VL as a reward model sees through it: a copy of it, for batches of images of one size.

Two parts are replaced by faster equals. A still image fills both frames of the patch embedding's convolution, so that the sum over
time of its kernel gives the same from one frame; and images of one size attend in one batch instead of one after the other.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qi2.core.errors import QI2Error


class StillPatchEmbed(nn.Module):
    """Patches of one frame (N, 3 * P * P) to embeddings (N, C)."""

    def __init__(self, embed: Any) -> None:
        super().__init__()
        kernel = embed.proj.weight.detach().sum(2).flatten(1)
        self.proj = nn.Linear(kernel.shape[1], kernel.shape[0])
        self.proj.weight.data.copy_(kernel)
        self.proj.bias.data.copy_(embed.proj.bias.detach())

    def forward(self, patches: Tensor) -> Tensor:
        return self.proj(patches)


class BatchedAttention(nn.Module):
    """The tower's own attention for images that all have the same number of patches."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads = attention.qkv, attention.proj, attention.num_heads

    def forward(self, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings: tuple[Tensor, Tensor], **_: Any) -> Tensor:
        from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision

        images = len(cu_seqlens) - 1
        q, k, v = self.qkv(hidden_states).unflatten(1, (3, self.heads, -1)).unbind(1)
        q, k = apply_rotary_pos_emb_vision(q, k, *position_embeddings)
        q, k, v = (x.unflatten(0, (images, -1)).transpose(1, 2) for x in (q, k, v))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).flatten(0, 1))


class VisionTower(nn.Module):
    """Images (B, 3, H, W) in [-1, 1], H and W multiples of a slot's side, to merged slots (B, slots, width) in reading order."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = copy.deepcopy(visual).float()
        self.visual.patch_embed = StillPatchEmbed(self.visual.patch_embed)
        for block in self.visual.blocks:
            block.attn = BatchedAttention(block.attn)
        self.patch, self.merge = int(visual.config.patch_size), int(visual.config.spatial_merge_size)
        self.width = int(visual.config.out_hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        side = self.patch * self.merge
        if height % side or width % side:
            raise QI2Error(f"rewards.size: a picture of {width}x{height} px cannot be cut into slots of {side} px; choose a multiple of {side}")
        rows, columns = height // side, width // side
        patches = images.reshape(batch, 3, rows, self.merge, self.patch, columns, self.merge, self.patch)
        patches = patches.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(-1, 3 * self.patch**2)
        grid = torch.tensor([[1, height // self.patch, width // self.patch]], device=images.device).expand(batch, 3)
        return self.visual(patches, grid).pooler_output.view(batch, rows * columns, self.width)
