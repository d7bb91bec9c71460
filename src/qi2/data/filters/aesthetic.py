"""Aesthetic score (report 2.3, stage 4): a learned head on CLIP's image vectors, else a stand-in, the colourfulness of Hasler and Suesstrunk (2003).

A head scores what CLIP sees, the T2I images; edits then have no score and are not rejected by it. The two lie on different scales.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.core.errors import QI2Error
from qi2.data.curate_config import MIN_COLOURFULNESS, StageThresholds
from qi2.data.filters.base import TARGETS, Filter, Picture, outside

if TYPE_CHECKING:
    import pandas as pd
    import torch

KEY = "standins.aesthetic.path"
MOST = 10.0  # of a head's scale; colourfulness reaches 150
CONVERT = "from safetensors.torch import save_file; save_file(torch.load(PATH, weights_only=True), NAME + '.safetensors')"
Layer = tuple["torch.Tensor", "torch.Tensor | None"]  # weight (out, in) and bias (out,)


class AestheticHead:
    """LAION's aesthetic predictors: Linear layers without activations between them, on unit image vectors of the CLIP that they were trained with.

    Sizes are those of the file's tensors. Raises QI2Error for a pickled file, and for one that is missing or holds something else.
    """

    def __init__(self, path: str, device: str = "cpu") -> None:
        self.path = path
        self.layers = [(weight.to(device), None if bias is None else bias.to(device)) for weight, bias in read_layers(path)]

    def score(self, vectors: "torch.Tensor") -> np.ndarray:
        """Scores (B), about 1..10, of unit vectors (B, D); raises QI2Error when the head is made for another D."""
        from torch.nn import functional as F

        width = self.layers[0][0].shape[1]
        if vectors.shape[1] != width:
            raise QI2Error(
                f"{KEY}={self.path!r} takes vectors of {width} numbers, but those of standins.clip.path have {vectors.shape[1]}; "
                "give the CLIP that the head was trained with (LAION's: a ViT-L/14)"
            )
        for weight, bias in self.layers:
            vectors = F.linear(vectors, weight, bias)
        return np.asarray(vectors[:, 0].cpu().numpy(), dtype=float)


def read_layers(path: str) -> list[Layer]:
    """The file's Linear layers in float32, in the order of the numbers in their names."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if Path(path).suffix != ".safetensors":
        raise QI2Error(f"{KEY}={path!r} is not a .safetensors file, and pickled weights can run code; convert them once: {CONVERT}")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise QI2Error(f"{KEY}={path!r} cannot be read as safetensors ({error}); set it to the file of an aesthetic head") from error
    names = sorted(
        (name.removesuffix("weight") for name in tensors if name.endswith("weight")), key=lambda name: [int(part) for part in re.findall(r"\d+", name)]
    )
    _check_layers(path, names, tensors)
    return [(tensors[f"{name}weight"].float(), tensors[f"{name}bias"].float() if f"{name}bias" in tensors else None) for name in names]


def _check_layers(path: str, names: list[str], tensors: "Mapping[str, torch.Tensor]") -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    sizes = [shapes[f"{name}weight"] for name in names]
    known = {f"{name}{part}" for name in names for part in ("weight", "bias")}
    linear = bool(sizes) and all(len(size) == 2 for size in sizes) and set(shapes) <= known
    chained = linear and all(after[1] == before[0] for before, after in zip(sizes, sizes[1:], strict=False)) and sizes[-1][0] == 1
    if not chained or any(shapes.get(f"{name}bias", size[:1]) != size[:1] for name, size in zip(names, sizes, strict=True)):
        raise QI2Error(f"{KEY}={path!r} is no chain of Linear layers to one number but holds {shapes}; give an aesthetic head alone, without its CLIP")


def check_thresholds(limits: Mapping[str, StageThresholds], head: str) -> None:
    """Raise QI2Error where a head is given and a stage's ``min_aesthetic`` was chosen for colourfulness."""
    for stage, limit in limits.items():
        if head and limit.min_aesthetic is not None and (limit.min_aesthetic > MOST or limit.min_aesthetic == MIN_COLOURFULNESS):
            raise QI2Error(
                f"curate.{stage}.min_aesthetic={limit.min_aesthetic:g} is a colourfulness, but {KEY}={head!r} scores from 1 to {MOST:g}; "
                f"set it on that scale, e.g. curate.{stage}.min_aesthetic=5"
            )


def measure(picture: Picture) -> dict[str, Any]:
    """``aesthetic`` without a head: 0 for gray pictures, about 30 for muted and above 80 for vivid ones."""
    red, green, blue = (np.asarray(band, dtype=np.float32).ravel() for band in picture.small.split())
    opponents = red - green, (red + green) / 2 - blue
    mean = [float(values.mean()) for values in opponents]
    variance = [max(float(values @ values) / len(values) - middle**2, 0.0) for values, middle in zip(opponents, mean, strict=True)]
    return {"aesthetic": float(np.sqrt(sum(variance)) + 0.3 * np.hypot(mean[0], mean[1]))}


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return outside(table["aesthetic"], limits.min_aesthetic, None)


FILTER = Filter("aesthetic", TARGETS, ("aesthetic",), _rejects, measure)
