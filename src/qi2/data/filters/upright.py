"""Content orientation (report 2.3, stage 1): pictures that lie on their side or head although EXIF calls them upright, by an image classifier.

It only rejects. Nothing is turned by a model's word: classifiers disagree on the sense of rotation, and a wrong turn would spoil what was good.
It sees pictures as readers do, after EXIF's turn. Trap: pictures seen from above, patterns and pages of vertical text have no upright.
"""

import re
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import EVERY, Filter, outside
from qi2.data.filters.models import ModelPaths, load_pretrained

if TYPE_CHECKING:
    import pandas as pd

KEY = "standins.orientation.path"
QUARTERS = (0, 90, 180, 270)  # degrees
NUMBER = re.compile(r"(?:(?<![A-Za-z0-9])-)?\d+")  # with its sign, if the minus is no hyphen as in "rotated-90"


class OrientationScorer:
    """Any image classifier of transformers with one class per quarter turn, and its own image processor."""

    roles: tuple[str, ...] = ()
    columns = ("content_rotation", "upright")

    def __init__(self, paths: ModelPaths, device: str = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        self.device = device
        self.processor = load_pretrained(AutoImageProcessor.from_pretrained, paths.orientation, "orientation classifier", KEY)
        self.model = load_pretrained(AutoModelForImageClassification.from_pretrained, paths.orientation, "orientation classifier", KEY)
        self.model.eval().to(device)
        self.degrees = label_degrees(self.model.config.id2label)

    def score(self, images: list[Image.Image], captions: list[list[str]]) -> dict[str, np.ndarray]:
        """``content_rotation``: 0, 90, 180 or 270 degrees, in the classifier's sense, of the likeliest class; ``upright``: probability 0..1 of 0 degrees."""
        import torch

        with torch.inference_mode():
            pixels = self.processor(images=images, return_tensors="pt")["pixel_values"].to(self.device)
            probability = self.model(pixel_values=pixels).logits.float().softmax(-1).cpu().numpy().astype(float)
        return {"content_rotation": self.degrees[probability.argmax(1)].astype(float), "upright": probability[:, int(np.argmin(self.degrees))]}


def label_degrees(id2label: dict[int, str]) -> np.ndarray:
    """Degrees (classes,) by the classes' names ("0", "rotated_90", "180 degrees", "-90", "upright"); raises QI2Error that lists the classes."""
    degrees = [_degrees(id2label[index]) for index in range(len(id2label))]
    if sorted(degrees) != list(QUARTERS):
        raise QI2Error(f"{KEY}: the classes {list(id2label.values())} do not name 0 (or upright), 90, 180 and 270 degrees once each; give a model whose do")
    return np.array(degrees)


def _degrees(label: str) -> int:
    """-1 for a name that is no quarter turn."""
    numbers = [int(text) for text in NUMBER.findall(label)]
    if not numbers:
        return 0 if label.strip().lower() == "upright" else -1
    return numbers[0] % 360 if len(numbers) == 1 and numbers[0] % 90 == 0 else -1


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["upright"], limits.min_upright, None)


FILTER = Filter("upright", EVERY, OrientationScorer.columns, _rejects)
