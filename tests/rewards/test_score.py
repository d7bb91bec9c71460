"""Calibrated scores as reinforcement learning uses them."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.rewards.config import DIMENSIONS, RewardArchitecture
from qi2.rewards.heads import RewardModel
from qi2.rewards.pairs import WorldPairs
from qi2.rewards.score import RewardModels


@dataclass
class Prompt:
    text: str
    sources: list[Image.Image] = field(default_factory=list)


@dataclass
class Answer:
    prompt: Prompt
    image: Image.Image


@pytest.fixture
def rewards(encoder: Any) -> RewardModels:
    torch.manual_seed(0)
    models = {}
    for name in DIMENSIONS:
        models[name] = RewardModel(RewardArchitecture(name, 64, 32, 1, 2), encoder.model.model.visual, encoder.width).eval()
        torch.nn.init.normal_(models[name].head.score.weight)
    return RewardModels(models, encoder)


def test_scores_are_calibrated_and_carry_no_gradient(rewards: RewardModels) -> None:
    pair = WorldPairs("alignment", "train", 64, 0).get(0)
    raw = rewards.score("alignment", [pair.prompt] * 2, pair.pictures)
    rewards.models["alignment"].config.mean, rewards.models["alignment"].config.temperature = 1.0, 2.0
    scores = rewards.score("alignment", [pair.prompt] * 2, pair.pictures)
    assert torch.allclose(scores, (raw - 1) / 2)
    assert not scores.requires_grad


def test_a_score_depends_on_its_own_prompt_picture_and_source_only(rewards: RewardModels) -> None:
    pairs = [WorldPairs("instruction", "train", 64, 0).get(i) for i in range(3)]
    together = rewards.score("instruction", [p.prompt for p in pairs], [p.pictures[0] for p in pairs], [p.sources for p in pairs])
    alone = [rewards.score("instruction", [p.prompt], [p.pictures[0]], [list(p.sources)]) for p in pairs]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_every_prompt_is_read_once(rewards: RewardModels, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    encode = rewards.encoder.encode
    monkeypatch.setattr(rewards.encoder, "encode", lambda prompts, references: read.extend(prompts) or encode(prompts, references))
    picture = Image.new("RGB", (64, 64))
    rewards.score("alignment", ["a", "b", "a", "a"], [picture] * 4)
    assert sorted(read) == ["a", "b"]


def test_pictures_of_other_sizes_and_modes_are_fitted(rewards: RewardModels) -> None:
    assert rewards.score("aesthetic", ["", ""], [Image.new("RGB", (100, 80)), Image.new("RGBA", (32, 32))]).shape == (2,)


def test_edits_need_a_source_and_dimensions_must_exist(rewards: RewardModels) -> None:
    picture = Image.new("RGB", (64, 64))
    with pytest.raises(QI2Error, match="give the source picture"):
        rewards.score("consistency", ["x"], [picture])
    with pytest.raises(QI2Error, match="no reward dimension 'beauty'"):
        rewards.score("beauty", ["x"], [picture])


def test_a_scorer_is_silent_where_its_reward_does_not_apply(rewards: RewardModels) -> None:
    picture = Image.new("RGB", (64, 64), "red")
    answers = [Answer(Prompt("a red circle"), picture), Answer(Prompt("a smiling face"), picture), Answer(Prompt("make it blue", [picture]), picture)]
    silent = {name: scorer(answers).isnan().tolist() for name, scorer in rewards.scorers().items()}
    assert silent == {
        "aesthetic": [False, False, False],
        "alignment": [False, False, True],
        "portrait": [True, False, True],
        "instruction": [True, True, False],
        "consistency": [True, True, False],
    }
