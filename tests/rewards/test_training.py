"""The stage as a whole: what it writes, that it learns, repeats and continues."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from rewards_settings import small_config

from qi2.core.publish import verify
from qi2.core.reporter import NullReporter
from qi2.objectives.calibration import fit_calibration
from qi2.recipe import Recipe
from qi2.rewards import train
from qi2.rewards.config import DIMENSIONS, NEEDS, RewardsConfig
from qi2.rewards.data import PromptReader, read_pool, through_vae
from qi2.rewards.heads import RewardModel
from qi2.rewards.measure import score_pool
from qi2.rewards.module import soften
from qi2.rewards.pairs import WorldPairs
from qi2.rewards.score import RewardModels
from qi2.rewards.train import train_rewards


def run(stages: Path, out: Path, checkpoints: Path | None = None, vae: Path | None = None, **changes: Any) -> dict[str, float]:
    recipe = Recipe(rewards=small_config(**changes))
    return train_rewards(recipe, stages / "raw", stages / "curated", stages / "standins", out, NullReporter(), checkpoints, vae)


def test_the_stage_writes_five_models_their_figures_and_a_sheet(stages: Path, small_world: Any) -> None:
    metrics = run(stages, stages / "rewards", vae=small_world.vae)
    names = set(verify(stages / "rewards"))
    assert {f"{name}/{file}" for name in DIMENSIONS for file in ("config.json", "model.safetensors")} <= names
    assert {"metrics.json", "curves.csv", "pairs.png"} <= names
    assert json.loads((stages / "rewards" / "metrics.json").read_text()) == metrics
    for name in DIMENSIONS:
        assert 6 <= metrics[f"reward/{name}/n"] <= 18
        assert 0 <= metrics[f"reward/{name}/accuracy"] <= 1
        assert 0 <= metrics[f"reward/{name}/accuracy_decoded"] <= 1
    assert set(RewardModels.load(stages / "rewards", small_world.vlm).models) == set(DIMENSIONS)


def test_same_seed_same_weights(stages: Path) -> None:
    run(stages, stages / "one")
    run(stages, stages / "two")
    weights = [{k: v for k, v in verify(stages / name).items() if k.endswith("safetensors")} for name in ("one", "two")]
    assert weights[0] == weights[1]


def test_several_processes_give_the_bytes_of_one(stages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(stages, stages / "one")
    monkeypatch.setattr(train, "cores", lambda: 2 * torch.get_num_threads())
    run(stages, stages / "two", stages / "checkpoints", parallel=2)
    assert verify(stages / "one") == verify(stages / "two")
    assert {path.name for path in (stages / "checkpoints").iterdir()} == set(DIMENSIONS)


def test_processes_get_about_equally_much_to_do_and_never_outnumber_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RewardsConfig(parallel=0)
    config.alignment.steps, config.instruction.steps, config.consistency.steps, config.aesthetic.steps, config.portrait.steps = 350, 200, 60, 120, 40
    monkeypatch.setattr(train, "cores", lambda: 2)
    assert train.divided(config, 1) == [("alignment", "portrait"), ("aesthetic", "instruction", "consistency")]
    assert train.divided(config, 2) == [DIMENSIONS]
    monkeypatch.setattr(train, "cores", lambda: 64)
    assert len(train.divided(config, 1)) == 4
    config.parallel = 1
    assert train.divided(config, 1) == [DIMENSIONS]


def test_a_killed_run_keeps_the_rewards_that_were_done(stages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(stages, stages / "whole")
    steps = []
    look = RewardModel.look

    def stop(self: RewardModel, images: torch.Tensor) -> torch.Tensor:
        if self.training and self.config.dimension == "portrait":
            raise KeyboardInterrupt
        steps.append(self.config.dimension)
        return look(self, images)

    monkeypatch.setattr(RewardModel, "look", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(stages, stages / "rewards", stages / "checkpoints")
    assert not (stages / "rewards").exists()
    monkeypatch.setattr(RewardModel, "look", look)
    run(stages, stages / "rewards", stages / "checkpoints")
    for name in DIMENSIONS:
        whole, resumed = ((stages / folder / name / "model.safetensors").read_bytes() for folder in ("whole", "rewards"))
        assert whole == resumed


def test_a_reward_learns_through_noise_and_its_scale_comes_from_pairs_of_its_own(stages: Path, small_world: Any) -> None:
    config = small_config(heldout=400, label_noise=0.15, equal=0.1)
    config.portrait.pairs, config.portrait.steps, config.portrait.batch_size = 800, 80, 32
    metrics = train_rewards(Recipe(rewards=config), stages / "raw", stages / "curated", stages / "standins", stages / "rewards", NullReporter())
    found = {key: metrics[f"reward/portrait/{key}"] for key in ("ceiling", "of_ceiling", "accuracy_truth", "calibration_error", "ties")}
    assert found["ceiling"] == pytest.approx(0.85, abs=0.06)
    assert found["accuracy_truth"] >= 0.85
    assert found["of_ceiling"] >= 0.88
    assert found["calibration_error"] <= 0.1
    assert found["ties"] == pytest.approx(0.1, abs=0.05)
    model = RewardModels.load(stages / "rewards", small_world.vlm).models["portrait"]
    held = read_pool(WorldPairs("portrait", "heldout", 64, 0, 0.15, 0.1).pairs(400), NEEDS["portrait"], PromptReader(None), "held")  # type: ignore[arg-type]
    reference, measured = held.divide(config.calibration, 0)
    assert set(reference.groups).isdisjoint(measured.groups)
    assert model.calibrated(score_pool(model, reference).mean).mean().abs() < 1e-3
    again = fit_calibration(score_pool(model, reference).differences()[0], reference.labels)
    assert asdict(again) == pytest.approx(asdict(model.calibration), rel=1e-2)


def test_uncertain_scores_and_adapters_are_trained_and_calibrated(stages: Path) -> None:
    metrics = run(stages, stages / "rewards", uncertain=True, ties="set", tie=0.3, tower="lora")
    assert all(metrics[f"reward/{name}/temperature"] > 0 for name in DIMENSIONS)
    assert json.loads((stages / "rewards" / "portrait" / "config.json").read_text())["uncertain"] is True


def test_a_table_of_scored_pictures_trains_and_calibrates_a_reward(stages: Path) -> None:
    lines = []
    for i in range(150):
        for k, picture in enumerate(WorldPairs("portrait", "train", 64, 0).get(i).pictures):
            picture.save(stages / f"{i}-{k}.png")
            lines.append({"prompt": f"face {i}", "image": f"{i}-{k}.png", "portrait": 8.0 - 5 * k})
    (stages / "scores.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = small_config(pairs=str(stages / "scores.jsonl"), heldout_share=0.4)
    config.portrait.steps, config.portrait.batch_size = 60, 32
    metrics = train_rewards(Recipe(rewards=config), stages / "raw", stages / "curated", stages / "standins", stages / "rewards", NullReporter())
    found = {key: metrics[f"reward/portrait/{key}"] for key in ("annotated", "accuracy", "n", "ties")}
    assert found["annotated"] == 1
    assert found["accuracy"] >= 0.85
    assert found["n"] >= 36  # every good picture of 36 held-out prompts with its bad one, at least
    assert "reward/portrait/ceiling" not in metrics


def test_a_step_sees_the_same_batch_whenever_it_is_asked(encoder: Any) -> None:
    from qi2.rewards.config import RewardArchitecture
    from qi2.rewards.module import RewardModule

    pool = read_pool(WorldPairs("alignment", "train", 64, 0).pairs(12), NEEDS["alignment"], PromptReader(encoder), "test")
    model = RewardModel(RewardArchitecture("alignment", 64, 32, 1, 2), encoder.model.model.visual, encoder.width)
    module = RewardModule(model, pool, small_config(), 0)
    first, other, again = module.batch(3), module.batch(4), module.batch(3)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["images"], other["images"])


def test_a_reward_may_have_a_weight_decay_of_its_own(encoder: Any) -> None:
    from qi2.rewards.config import RewardArchitecture
    from qi2.rewards.module import RewardModule

    pool = read_pool(WorldPairs("portrait", "train", 64, 0).pairs(2), NEEDS["portrait"], PromptReader(encoder), "test")
    model = RewardModel(RewardArchitecture("portrait", 64, 32, 1, 2), encoder.model.model.visual, encoder.width)
    config, found = small_config(), []
    for config.portrait.weight_decay in (-1.0, 0.5, 0.0):
        groups = RewardModule(model, pool, config, 0).configure_optimizers()["optimizer"].param_groups
        found.append([group["weight_decay"] for group in groups])
    assert found == [[config.optimizer.weight_decay, 0.0], [0.5, 0.0], [0.0, 0.0]]


def test_only_the_chosen_share_of_pictures_passes_through_the_vae(encoder: Any, small_world: Any) -> None:
    from qi2.models.vae import VAE

    pool = read_pool(WorldPairs("aesthetic", "train", 64, 0).pairs(20), NEEDS["aesthetic"], PromptReader(encoder), "test")
    changed = through_vae(pool, VAE.load(small_world.vae), 0.25, 0.1, 0, "test").pictures
    different = (changed != pool.pictures).flatten(2).any(-1)
    assert int(different.sum()) == 10


def test_softening_is_mild() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 2, 3, 32, 32) * 1.6 - 0.8
    softened = soften(images, 0.5, 4.0, generator)
    assert softened.shape == images.shape
    assert 0 < (softened - images).abs().mean() < 0.25
    assert torch.equal(soften(images, 0.0, 0.0, generator), images)
