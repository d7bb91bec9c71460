"""The eyes of a reward model: a copy of the Qwen3-VL's vision tower with its merger, with adapters where these are what is trained."""

import copy
from typing import Any

from torch import Tensor, nn

from qi2.core.errors import QI2Error
from qi2.models.vision import grids, speed_up, to_patches
from qi2.rewards.config import TowerLoRA

ADAPTER = ".lora_"  # in the names of an adapter's weights


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


def add_adapters(tower: VisionTower, config: TowerLoRA) -> VisionTower:
    """Freeze the tower and give the target layers of its blocks trainable adapters that change nothing yet; in place.

    Raises QI2Error where peft is missing or a target names no linear layer of the blocks.
    """
    try:
        import peft
    except ImportError as error:
        raise QI2Error('rewards.tower=lora needs peft; install it with: pip install "qi2[lora]"') from error
    known = {name.rsplit(".", 1)[-1] for name, module in tower.visual.blocks.named_modules() if isinstance(module, nn.Linear)}
    if unknown := sorted(set(config.targets) - known):
        raise QI2Error(f"rewards.lora.targets names {unknown[0]!r}, which is no linear layer of the tower; choose among {', '.join(sorted(known))}")
    targets = rf"blocks\.\d+\..*\.({'|'.join(config.targets)})"
    settings = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha or config.rank, target_modules=targets)  # type: ignore[arg-type]
    tower.requires_grad_(False)
    peft.inject_adapter_in_model(settings, tower.visual)
    return tower
