"""The reward model: sees as the VLM sees, scores pictures independently of each other, and survives saving."""

from pathlib import Path
from typing import Any

import pytest
import torch

from qi2.core.errors import QI2Error
from qi2.rewards.config import RewardArchitecture, TowerLoRA
from qi2.rewards.heads import RewardModel
from qi2.rewards.tower import VisionTower


def make(encoder: Any, dimension: str = "instruction", tower: str = "train", **changes: Any) -> RewardModel:
    torch.manual_seed(0)
    architecture = RewardArchitecture(dimension, 64, 32, 2, 2, tower, **({"lora": TowerLoRA(rank=4)} | changes))
    model = RewardModel(architecture, encoder.model.model.visual, encoder.width)
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def inputs(encoder: Any, n: int = 3) -> dict[str, torch.Tensor]:
    images = torch.rand(n, 2, 3, 64, 64) * 2 - 1
    prompt, mask = torch.randn(n, 7, encoder.width), torch.ones(n, 7, dtype=torch.bool)
    return {"images": images, "source": images[:, 0], "prompt": prompt, "mask": mask}


@torch.no_grad()
def test_tower_gives_the_slots_of_the_vlm(encoder: Any) -> None:
    images = torch.rand(2, 3, 64, 96) * 2 - 1
    patches = images.view(2, 3, 2, 2, 16, 3, 2, 16).permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    frames = patches.expand(-1, -1, -1, -1, -1, -1, 2, -1, -1).reshape(-1, 3 * 2 * 256)
    expected = encoder.model.model.visual(frames, torch.tensor([[1, 4, 6]] * 2)).pooler_output
    assert torch.allclose(VisionTower(encoder.model.model.visual)(images).flatten(0, 1), expected, atol=1e-4)


def test_a_size_that_slots_do_not_fill_is_an_error(encoder: Any) -> None:
    with pytest.raises(QI2Error, match="multiple of 32"):
        VisionTower(encoder.model.model.visual)(torch.zeros(1, 3, 48, 64))


@torch.no_grad()
@pytest.mark.parametrize("dimension", ["aesthetic", "alignment", "instruction"])
def test_pictures_of_one_prompt_do_not_influence_each_other(encoder: Any, dimension: str) -> None:
    model, batch = make(encoder, dimension), inputs(encoder)
    together = model(**batch).mean
    apart = torch.cat([model(**{**batch, "images": batch["images"][:, i : i + 1]}).mean for i in range(2)], 1)
    assert together.std() > 0
    assert torch.allclose(together, apart, atol=1e-5)


@torch.no_grad()
def test_padding_of_the_prompt_changes_nothing(encoder: Any) -> None:
    model, batch = make(encoder), inputs(encoder)
    padded = {
        "prompt": torch.cat([batch["prompt"], torch.randn(3, 4, encoder.width)], 1),
        "mask": torch.cat([batch["mask"], torch.zeros(3, 4, dtype=torch.bool)], 1),
    }
    assert torch.allclose(model(**batch).mean, model(**{**batch, **padded}).mean, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("tower", ["train", "lora", "frozen"])
def test_a_saved_model_scores_as_before(encoder: Any, tmp_path: Path, tower: str) -> None:
    model, batch = make(encoder, tower=tower), inputs(encoder)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save(tmp_path / "model")
    loaded = RewardModel.load(tmp_path / "model", encoder.model.model.visual, encoder.width)
    assert torch.equal(model(**batch).mean, loaded(**batch).mean)


def test_a_frozen_tower_is_neither_trained_nor_stored(encoder: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = make(encoder, tower="frozen")
    model(**inputs(encoder)).mean.sum().backward()
    assert all(parameter.grad is None for parameter in model.tower.parameters())
    model.save(tmp_path)
    assert all(name.startswith("head.") or name == "log_tie" for name in load_file(tmp_path / "model.safetensors"))


def test_adapters_begin_as_the_frozen_tower_and_alone_are_trained_and_stored(encoder: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model, frozen, batch = make(encoder, tower="lora"), make(encoder, tower="frozen"), inputs(encoder)
    with torch.no_grad():
        assert torch.allclose(model.look(batch["images"]), frozen.look(batch["images"]), atol=1e-5)
    model(**batch).mean.sum().backward()
    trained = {name for name, parameter in model.tower.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in model.tower.named_parameters() if "lora_" in name}
    assert any(parameter.grad is not None and bool(parameter.grad.any()) for name, parameter in model.tower.named_parameters() if "lora_B" in name)
    model.save(tmp_path)
    assert {name for name in load_file(tmp_path / "model.safetensors") if name.startswith("tower.")} == {f"tower.{name}" for name in trained}


def test_adapters_go_to_layers_of_the_tower_only(encoder: Any) -> None:
    with pytest.raises(QI2Error, match="rewards.lora.targets names 'to_q', which is no linear layer of the tower; choose among .*qkv"):
        make(encoder, tower="lora", lora=TowerLoRA(targets=["to_q"]))


@torch.no_grad()
def test_uncertain_scores_have_a_positive_deviation_and_certain_ones_none(encoder: Any) -> None:
    batch = inputs(encoder)
    scores = make(encoder, uncertain=True)(**batch)
    assert scores.deviation is not None
    assert bool((scores.deviation > 0).all())
    _, spread = scores.differences()
    assert spread is not None
    assert torch.allclose(spread, (scores.deviation[:, 0] ** 2 + scores.deviation[:, 1] ** 2).sqrt())
    assert make(encoder)(**batch).deviation is None


def test_the_tie_logit_is_learned_set_or_absent(encoder: Any) -> None:
    learned, given, half = (make(encoder, ties=ties) for ties in ("learned", "set", "half"))
    assert learned.log_tie.requires_grad
    assert not given.log_tie.requires_grad
    assert given.tie is not None
    assert given.tie.item() == pytest.approx(0.5)
    assert half.tie is None
    with pytest.raises(QI2Error, match="rewards.ties 'none' is not known; choose one of learned, set, half"):
        make(encoder, ties="none")


def test_another_vlm_is_an_error_that_says_so(encoder: Any, tmp_path: Path) -> None:
    make(encoder).save(tmp_path)
    with pytest.raises(QI2Error, match="another VLM"):
        RewardModel.load(tmp_path, encoder.model.model.visual, encoder.width + 8)
    with pytest.raises(QI2Error, match="run stage `rewards`"):
        RewardModel.load(tmp_path / "nothing", encoder.model.model.visual, encoder.width)
