"""End to end: a published pipeline folder, converted, draws and edits the same pictures as diffusers does with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published import encoder, pipeline

from qi2.convert import convert
from qi2.pipeline import Pipeline

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, Any]:
    folder: Path = tmp_path_factory.mktemp("published")
    encoder(folder / "vlm")
    theirs = pipeline(folder / "vlm")
    theirs.save_pretrained(folder / "theirs")
    convert(folder / "theirs", folder / "ours")
    theirs.set_progress_bar_config(disable=True)
    return Pipeline.load(folder / "ours"), theirs


def difference(a: Image.Image, b: Image.Image) -> int:
    """Largest difference of two RGBA pictures, of 255."""
    assert a.size == b.size
    assert a.mode == b.mode == "RGBA"
    return int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max())


def noise(pipe: Pipeline, seed: int, height: int, width: int) -> torch.Tensor:
    return pipe._noise([seed], [(height, width)])[0].flatten(1).T[None]


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_text_to_image(both: tuple[Pipeline, Any], guidance: float) -> None:
    ours, theirs = both
    settings = {"negative_prompt": "a blue star", "true_cfg_scale": guidance} if guidance > 1 else {}
    wanted = theirs("a red circle", height=64, width=96, num_inference_steps=5, latents=noise(ours, 3, 64, 96), **settings).images[0]
    drawn = ours.generate(["a red circle"], [3], (96, 64), 5, guidance, "a blue star")[0]
    assert np.asarray(wanted).std() > 2
    assert difference(drawn, wanted) <= 1


def test_editing_with_two_references(both: tuple[Pipeline, Any]) -> None:
    ours, theirs = both
    images = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (80, 60 + 40 * i, 4), dtype=np.uint8), "RGBA") for i in range(2)]
    edited = ours.edit(["put both together"], [images], [3], 64, 5, 4.0, "blurred")[0]
    latents = noise(ours, 3, edited.height, edited.width)
    settings = {"negative_prompt": "blurred", "true_cfg_scale": 4.0, "output_resolution": 64, "num_inference_steps": 5}
    assert difference(edited, theirs("put both together", image=images, latents=latents, **settings).images[0]) <= 1
