"""The condition encoder against diffusers' pipeline: the same hidden states of every text token, in any batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published import encoder, pipeline

from qi2.models.condition import ConditionEncoder, fit_reference

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[ConditionEncoder, Any]:
    folder: Path = tmp_path_factory.mktemp("condition") / "vlm"
    encoder(folder)
    return ConditionEncoder.load(folder), pipeline(folder)


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(np.random.default_rng(width + height).integers(0, 255, (height, width, len(mode)), dtype=np.uint8), mode)


def theirs(pipe: Any, prompts: list[str], images: list[Image.Image] | None = None) -> list[torch.Tensor]:
    """Hidden states of each prompt's text tokens; where an image stands they are thrown away, as in ours."""
    with torch.no_grad():
        states, mask, is_image = pipe._get_qwen_prompt_embeds(prompts, images)
    return [s[m.bool() & ~i] for s, m, i in zip(states, mask, is_image, strict=True)]


@pytest.mark.parametrize("prompts", [["a red circle"], [""], ["a", "a much longer prompt than the other one, with words", ""], ["word " * 1100]])
def test_prompts_alone_and_together(both: tuple[ConditionEncoder, Any], prompts: list[str]) -> None:
    ours = both[0].encode(prompts, [[] for _ in prompts])
    for mine, wanted in zip(ours, theirs(both[1], prompts), strict=True):
        torch.testing.assert_close(mine.text, wanted, rtol=1e-3, atol=1e-4)
        assert mine.layout == [len(wanted)]
    assert len(prompts) > 1 or prompts[0][:4] != "word" or len(ours[0].text) > 1000


REFERENCES = {
    "one": [(64, 96, "RGB")],
    "two of other sizes": [(64, 96, "RGB"), (128, 32, "RGB")],
    "three, one transparent": [(64, 64, "RGB"), (96, 96, "RGBA"), (32, 64, "RGB")],
    "smaller than the processor's least": [(32, 32, "RGB")],
}


@pytest.mark.parametrize("name", REFERENCES)
def test_references_as_the_published_model_reads_them(both: tuple[ConditionEncoder, Any], name: str) -> None:
    images = [fit_reference(picture(*size), size[0] * size[1], alpha=True) for size in REFERENCES[name]]
    prompts = ["make it red", "put the circle beside the star in the other image"]
    ours = both[0].encode(prompts, [images] * 2)
    for mine, wanted in zip(ours, theirs(both[1], prompts, images), strict=True):
        torch.testing.assert_close(mine.text, wanted, rtol=1e-3, atol=1e-4)
        assert mine.layout.count(None) == len(images)
