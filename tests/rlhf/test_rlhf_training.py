"""RLHF as a whole on a small world with untrained networks."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.models.config import SamplerConfig
from qi2.models.mmdit import MMDiT
from qi2.rlhf.config import PromptsConfig, RLHFConfig, RolloutConfig
from qi2.rlhf.scoring import RolloutSample
from qi2.rlhf.train import RLHFInputs, build, train_rlhf
from qi2.training.config import EngineConfig, OptimizerConfig


def settings(**changes: Any) -> RLHFConfig:
    defaults: dict[str, Any] = {
        "steps": 4,
        "size": 64,
        "prompts": PromptsConfig(source="world", pool=40, edit_share=0.25),
        "rollout": RolloutConfig(prompts=4, group=4, steps=3, guidance=2.0, sde_steps=2),
        "rewards": {"redness": 1.0},
        "real_batch": 4,
        "optimizer": OptimizerConfig(name="muon", lr=5e-3, adam_lr=2e-3, warmup=1),
    }
    return RLHFConfig(**(defaults | changes))


@dataclass
class Recipe:
    """The part of a recipe that RLHF reads."""

    seed: int = 0
    engine: EngineConfig = field(default_factory=EngineConfig)
    rlhf: RLHFConfig = field(default_factory=settings)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)


def redness(samples: Sequence[RolloutSample]) -> Tensor:
    """How much more red than green a picture is."""
    means = [np.asarray(sample.image, dtype=np.float32).mean(axis=(0, 1)) for sample in samples]
    return torch.tensor([float(rgb[0] - rgb[1]) for rgb in means])


def inputs(world: Any, checkpoints: Path | None = None) -> RLHFInputs:
    return RLHFInputs(world.encoded, world.model, world.vae, world.vlm, checkpoints)


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("objective", ["nft", "grpo"])
def test_policy_gains_the_reward_that_it_is_given(small_world: Any, tmp_path: Path, objective: str) -> None:
    rollout = RolloutConfig(prompts=6, group=8, steps=3, guidance=1.5)
    config = settings(objective=objective, steps=20, clip_range=0.5, supervised=0.0, rollout=rollout)
    curve: list[float] = []

    def watched(samples: Sequence[RolloutSample]) -> Tensor:
        scores = redness(samples)
        curve.append(float(scores.mean()))
        return scores

    train_rlhf(Recipe(rlhf=config), inputs(small_world), {"redness": watched}, tmp_path / "out", NullReporter())
    assert np.mean(curve[-3:]) > np.mean(curve[:3]) + 3


def test_resume_after_kill_gives_same_weights(small_world: Any, tmp_path: Path) -> None:
    recipe, calls = Recipe(rlhf=settings(old_decay=0.5), engine=EngineConfig(checkpoint_steps=2)), 0
    train_rlhf(recipe, inputs(small_world), {"redness": redness}, tmp_path / "whole", NullReporter())

    def killed(samples: Sequence[RolloutSample]) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return redness(samples)

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train_rlhf(recipe, inputs(small_world, tmp_path / "ckpt"), {"redness": killed}, tmp_path / "resumed", NullReporter())
    assert not (tmp_path / "resumed").exists()
    train_rlhf(recipe, inputs(small_world, tmp_path / "ckpt"), {"redness": redness}, tmp_path / "resumed", NullReporter())
    assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")


def test_first_update_of_grpo_has_ratio_one_although_only_the_rollout_is_guided(small_world: Any) -> None:
    config = settings(objective="grpo", rollout=RolloutConfig(prompts=3, group=4, steps=3, guidance=4.0))
    module = build(Recipe(rlhf=config), inputs(small_world), {"redness": redness})
    rollout = module.roll_out()
    loss = module.policy_loss(rollout, torch.Generator().manual_seed(0))
    assert float(loss.detach()) == pytest.approx(-float(rollout.advantages.mean()), abs=1e-6)


def test_unconditional_branch_is_not_part_of_the_objective(small_world: Any) -> None:
    module = build(Recipe(), inputs(small_world), {"redness": redness})
    rollout = module.roll_out()
    module.sampler = None
    module.policy_loss(rollout, torch.Generator().manual_seed(0)).backward()
    assert module.model.proj_out.weight.grad.abs().sum() > 0


def test_groups_without_spread_are_dropped_and_the_real_samples_still_train(small_world: Any, tmp_path: Path) -> None:
    train_rlhf(Recipe(), inputs(small_world), {"redness": lambda samples: torch.ones(len(samples))}, tmp_path / "out", NullReporter())
    before, after = MMDiT.load(small_world.model), MMDiT.load(tmp_path / "out")
    assert not torch.equal(before.proj_out.weight, after.proj_out.weight)
    assert "rlhf/informative" in (tmp_path / "out" / "curves.csv").read_text()


def test_supervised_control_makes_no_rollouts(small_world: Any, tmp_path: Path) -> None:
    def never(samples: Sequence[RolloutSample]) -> Tensor:
        raise AssertionError("the control must not score anything")

    config = settings(objective="supervised", steps=2)
    train_rlhf(Recipe(rlhf=config), inputs(small_world), {"redness": never}, tmp_path / "out", NullReporter())
    assert (tmp_path / "out" / "metrics.json").exists()


def test_a_reward_that_no_longer_tells_samples_apart_loses_weight(small_world: Any) -> None:
    fading = iter(0.1**step for step in range(6))
    config = settings(rewards={"redness": 1.0, "fading": 1.0}, ema=0.5, reward_floor=0.2)
    module = build(Recipe(rlhf=config), inputs(small_world), {"redness": redness, "fading": lambda samples: next(fading) * redness(samples)})
    for step in range(6):
        module.steps_done = step
        module.roll_out()
    now = module.weights()
    assert now["redness"] > 0.5
    assert 0.2 <= now["fading"] < 0.3


def test_kinds_whose_samples_are_all_alike_are_asked_for_less(small_world: Any) -> None:
    module = build(Recipe(rlhf=settings(ema=0.5)), inputs(small_world), {"redness": lambda samples: redness(samples) * _is_one(samples)})
    for step in range(6):
        module.steps_done = step
        module.roll_out()
    spreads = dict(zip(module.pool.kinds, module.kind_spread.tolist(), strict=True))
    assert spreads["one"] > 0.5
    assert min(value for kind, value in spreads.items() if kind != "one") < 0.1


def _is_one(samples: Sequence[RolloutSample]) -> Tensor:
    return torch.tensor([float(sample.prompt.kind == "one") for sample in samples])


def test_unknown_objective_is_an_error(small_world: Any) -> None:
    with pytest.raises(QI2Error, match="choose one of nft, grpo, supervised"):
        build(Recipe(rlhf=settings(objective="ppo")), inputs(small_world), {"redness": redness})
