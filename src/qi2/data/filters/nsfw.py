"""NSFW (report 2.3, stage 1): probability of the unsafe class of an image classifier of transformers.

The class is found by name: taking index 1, as others do, inverts the filter for models with another order.
"""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import EVERY, Filter, outside
from qi2.data.filters.models import ModelPaths, load_pretrained

if TYPE_CHECKING:
    import pandas as pd


class NSFWScorer:
    """A ViTForImageClassification (or any image classifier) with its own image processor."""

    roles: tuple[str, ...] = ()
    columns = ("nsfw",)

    def __init__(self, paths: ModelPaths, device: str = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        key = "standins.nsfw.path"
        self.device = device
        self.processor = load_pretrained(AutoImageProcessor.from_pretrained, paths.nsfw, "NSFW classifier", key)
        self.model = load_pretrained(AutoModelForImageClassification.from_pretrained, paths.nsfw, "NSFW classifier", key)
        self.model.eval().to(device)
        self.index = label_index(self.model.config.id2label, paths.nsfw_label)

    def score(self, images: list[Image.Image], captions: list[list[str]]) -> dict[str, np.ndarray]:
        """``nsfw``: probability 0..1 of the unsafe label."""
        import torch

        with torch.inference_mode():
            pixels = self.processor(images=images, return_tensors="pt")["pixel_values"].to(self.device)
            probability = self.model(pixel_values=pixels).logits.float().softmax(-1)[:, self.index]
        return {"nsfw": probability.cpu().numpy().astype(float)}


def label_index(id2label: dict[int, str], label: str) -> int:
    """Index of the class called ``label`` (case does not matter); raises QI2Error that lists the classes."""
    for index, name in id2label.items():
        if name.lower() == label.lower():
            return int(index)
    raise QI2Error(f"the NSFW classifier has no class {label!r} but {sorted(id2label.values())}; set curate.nsfw_label to one of them")


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["nsfw"], None, limits.max_nsfw)


FILTER = Filter("nsfw", EVERY, ("nsfw",), _rejects)
