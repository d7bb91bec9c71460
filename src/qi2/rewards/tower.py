"""The eyes of a reward model: a copy of the Qwen3-VL's vision tower with its merger."""

import copy
from typing import Any

from torch import Tensor, nn

from qi2.core.errors import QI2Error
from qi2.models.vision import grids, speed_up, to_patches


class VisionTower(nn.Module):
    """Images (B, 3, H, W) in [-1, 1], H and W multiples of a slot's side, to merged slots (B, slots, width) in reading order."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = speed_up(copy.deepcopy(visual).float())
        config = visual.config
        self.patch, self.merge, self.frames = int(config.patch_size), int(config.spatial_merge_size), int(config.temporal_patch_size)
        self.width = int(config.out_hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        side = self.patch * self.merge
        if height % side or width % side:
            raise QI2Error(f"rewards.size: a picture of {width}x{height} px cannot be cut into slots of {side} px; choose a multiple of {side}")
        slots: Tensor = self.visual(to_patches(images, self.patch, self.merge, self.frames), grids(images, self.patch)).pooler_output
        return slots.view(len(images), -1, self.width)
