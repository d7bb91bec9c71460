"""The faster vision tower is the same tower."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from qi2.models.condition import ConditionEncoder
from qi2.models.vision import grids, speed_up, to_patches


@pytest.fixture
def visual(small_world: Any) -> Any:
    """The tower as transformers loads it."""
    from transformers import Qwen3VLForConditionalGeneration

    return Qwen3VLForConditionalGeneration.from_pretrained(small_world.vlm).model.visual.eval()


@torch.no_grad()
def test_images_of_one_size_give_the_same_features(visual: Any) -> None:
    images = torch.rand(3, 3, 64, 96) * 2 - 1
    inputs = to_patches(images, 16, 2, 2), grids(images, 16)
    slow, fast = visual(*inputs), speed_up(copy.deepcopy(visual))(*inputs)
    assert torch.allclose(slow.last_hidden_state, fast.last_hidden_state, atol=1e-4)
    assert torch.allclose(slow.pooler_output, fast.pooler_output, atol=1e-4)
    assert torch.allclose(slow.deepstack_features[0], fast.deepstack_features[0], atol=1e-4)


@torch.no_grad()
def test_images_of_different_sizes_still_attend_to_themselves_only(visual: Any) -> None:
    small, large = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 96)
    patches = torch.cat([to_patches(images, 16, 2, 2) for images in (small, large)])
    sizes = torch.cat([grids(images, 16) for images in (small, large)])
    assert torch.allclose(visual(patches, sizes).pooler_output, speed_up(copy.deepcopy(visual))(patches, sizes).pooler_output, atol=1e-4)


@torch.no_grad()
def test_patches_are_those_of_the_image_processor(small_world: Any) -> None:
    from qi2.data.world.render import render
    from qi2.data.world.scene import Object, Scene
    from qi2.models.pixels import to_tensor

    picture = render(Scene("one", objects=(Object("star", "red", 0, 1),)), 64)
    pixels = ConditionEncoder.load(small_world.vlm).image_processor(images=[picture], return_tensors="pt")["pixel_values"]
    assert torch.allclose(to_patches(to_tensor([picture]), 16, 2, 2), pixels, atol=1e-3)


def test_names_and_weights_stay_so_that_saved_folders_load(visual: Any, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in visual.state_dict().items()}
    after = speed_up(visual).state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert speed_up(visual) is visual


def test_the_tower_goes_to_the_images(small_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a frozen teacher it is no part of what Lightning moves; without a GPU, that it is asked to go is all that can be seen."""
    encoder, places = ConditionEncoder.load(small_world.vlm), list[torch.device]()
    visual = encoder.model.model.visual
    monkeypatch.setattr(visual, "to", lambda place: [visual, places.append(place)][0], raising=False)
    encoder.vision_features(torch.zeros(1, 3, 64, 64))
    assert places == [torch.device("cpu")]
