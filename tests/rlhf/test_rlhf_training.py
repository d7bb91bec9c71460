"""RLHF as a whole on a small world with untrained networks."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qi2.config import as_dict
from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.models.config import LoRAConfig, SamplerConfig
from qi2.models.lora import apply_adapter, merge, read_adapter
from qi2.models.mmdit import MMDiT
from qi2.rlhf.config import JudgeConfig, PromptsConfig, RLHFConfig, RolloutConfig
from qi2.rlhf.scoring import RolloutSample
from qi2.rlhf.train import RLHFInputs, build, train_rlhf
from qi2.training.config import EngineConfig, OptimizerConfig
from qi2.training.fit import fit
from qi2.training.versions import network_hash


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


@pytest.mark.parametrize("guard", [False, True])
def test_first_update_of_grpo_has_ratio_exactly_one_although_only_the_rollout_is_guided(small_world: Any, guard: bool) -> None:
    config = settings(objective="grpo", guard=guard, kl=0.1, rollout=RolloutConfig(prompts=3, group=4, steps=3, guidance=4.0))
    module = build(Recipe(rlhf=config), inputs(small_world), {"redness": redness})
    module.policy_loss(module.roll_out(), torch.Generator().manual_seed(0))
    assert float(module.tally.totals["rlhf/ratio_off"]) == 0.0


def test_stochastic_window_is_drawn_inside_its_range_and_never_takes_the_last_step(small_world: Any) -> None:
    config = settings(rollout=RolloutConfig(prompts=1, group=2, steps=6, sde_steps=2, sde_range=[1, 6]))
    sampler = build(Recipe(rlhf=config), inputs(small_world), {"redness": redness}).sampler
    windows = [sampler.window(0, step) for step in range(60)]
    assert {window.start for window in windows} == {1, 2, 3}
    assert {len(window) for window in windows} == {2}
    assert [sampler.window(0, step) for step in range(60)] == windows


def test_transitions_are_those_of_the_window_and_the_rest_is_the_ode(small_world: Any) -> None:
    """Before its window a stochastic rollout is where the ODE is from the same noise."""
    config = settings(rollout=RolloutConfig(prompts=2, group=3, steps=5, sde_steps=2, sde_range=[2, 4], guidance=2.0))
    module = build(Recipe(rlhf=config), inputs(small_world), {"redness": redness})
    prompts = [prompt for prompt in module.pool.prompts if not prompt.kind.startswith("edit/")][:2]
    stochastic = module.sampler.draw(module.model, prompts, 0, 0, stochastic=True)
    assert [(step.now, step.after) for step in stochastic.transitions] == list(zip(module.sampler.times[2:4], module.sampler.times[3:5], strict=True))
    module.sampler.config.noise_level = 0.0
    quiet, plain = (module.sampler.draw(module.model, prompts, 0, 0, stochastic) for stochastic in (True, False))
    torch.testing.assert_close(quiet.x0, plain.x0)
    torch.testing.assert_close(stochastic.transitions[0].x, quiet.transitions[0].x)


def test_a_rollout_learnt_from_group_by_group_gives_the_same_gradient(small_world: Any) -> None:
    gradients = []
    for batch in (0, 1):
        module = build(Recipe(rlhf=settings(objective="grpo", kl=0.1)), inputs(small_world), {"redness": redness})
        rollout, part = module.roll_out(), module.batch(0)[0]
        module.config.rollout.batch = batch
        for loss in module.losses(part, rollout, torch.Generator().manual_seed(0)):
            loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in module.model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


def test_distance_to_the_start_is_penalised(small_world: Any) -> None:
    """Zero with its gradient at the start; a penalty so large that nothing else counts keeps the policy nearer to it."""
    moved = []
    for kl in (0.0, 100.0):
        config = settings(kl=kl, supervised=0.0, judge=JudgeConfig(steps=3, every=4, prompts=4, group=2, fall=0.0, diversity=0.0))
        module = build(Recipe(rlhf=config), inputs(small_world), {"redness": redness})
        fit(module, "test", NullReporter())
        assert module.history[0]["judge/kl"] == 0
        moved.append(module.history[-1]["judge/kl"])
    assert moved[1] < moved[0]


def test_reference_is_no_part_of_the_state_but_of_what_a_checkpoint_must_agree_on(small_world: Any) -> None:
    module = build(Recipe(), inputs(small_world), {"redness": redness})
    networks = {name.split(".")[0] for name in module.state_dict()}
    assert networks == {"model", "old", "balance", "shares"}
    start = module.facts()["start"]
    with torch.no_grad():
        module.reference.proj_out.weight.add_(1)
    assert build(Recipe(), inputs(small_world), {"redness": redness}).facts()["start"] == start
    assert network_hash(module.reference, as_dict(module.model.config)) != start


def test_adapters_are_trained_alone_kept_as_a_file_and_merged(small_world: Any, tmp_path: Path) -> None:
    config = settings(lora=LoRAConfig(rank=2), judge=JudgeConfig(steps=3, every=2, prompts=4, group=2))
    module = build(Recipe(rlhf=config), inputs(small_world), {"redness": redness})
    own, old = dict(module.model.named_parameters()), dict(module.old.named_parameters())
    assert all(p.requires_grad == ("lora_" in name) for name, p in own.items())
    assert all((own[name] is old[name]) == ("lora_" not in name) for name in own)
    train_rlhf(Recipe(rlhf=config), inputs(small_world), {"redness": redness}, tmp_path / "out", NullReporter())
    merged = merge(apply_adapter(MMDiT.load(small_world.model), read_adapter(tmp_path / "out" / "lora", 2)))
    for name, value in MMDiT.load(tmp_path / "out").state_dict().items():
        torch.testing.assert_close(value, merged.state_dict()[name])


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


def test_without_spread_and_without_anchor_nothing_moves(small_world: Any, tmp_path: Path) -> None:
    scorers = {"redness": lambda samples: torch.ones(len(samples))}
    train_rlhf(Recipe(rlhf=settings(supervised=0.0)), inputs(small_world), scorers, tmp_path / "out", NullReporter())
    assert weights(tmp_path / "out") == hashlib.sha256((small_world.model / "model.safetensors").read_bytes()).hexdigest()


def test_time_of_rollout_reward_and_update_are_told_apart(small_world: Any, tmp_path: Path) -> None:
    seen: dict[str, float] = {}

    class Watching(NullReporter):
        def metrics(self, values: Mapping[str, float], step: int) -> None:
            seen.update(values)

    def slow(samples: Sequence[RolloutSample]) -> Tensor:
        time.sleep(0.05)
        return redness(samples)

    train_rlhf(Recipe(rlhf=settings(steps=2)), inputs(small_world), {"redness": slow}, tmp_path / "out", Watching())
    assert seen["speed/reward_s"] > 0.05
    assert seen["speed/rollout_s"] > 0
    assert seen["speed/update_s"] > 0
    assert "speed/" not in (tmp_path / "out" / "curves.csv").read_text()


def test_supervised_control_makes_no_rollouts(small_world: Any, tmp_path: Path) -> None:
    def never(samples: Sequence[RolloutSample]) -> Tensor:
        raise AssertionError("the control must not score anything")

    config = settings(objective="supervised", steps=2)
    train_rlhf(Recipe(rlhf=config), inputs(small_world), {"redness": never}, tmp_path / "out", NullReporter())
    assert (tmp_path / "out" / "metrics.json").exists()


def test_kinds_whose_samples_are_all_alike_are_asked_for_less(small_world: Any) -> None:
    module = build(Recipe(rlhf=settings(ema=0.5)), inputs(small_world), {"redness": lambda samples: redness(samples) * _is_one(samples)})
    for step in range(6):
        module.steps_done = step
        module.roll_out()
    shares = dict(zip(module.pool.kinds, module.shares.factors().tolist(), strict=True))
    assert shares["one"] > 0.5
    assert min(value for kind, value in shares.items() if kind != "one") < 0.3


def _is_one(samples: Sequence[RolloutSample]) -> Tensor:
    return torch.tensor([float(sample.prompt.kind == "one") for sample in samples])


def test_unknown_objective_is_an_error(small_world: Any) -> None:
    with pytest.raises(QI2Error, match="choose one of nft, grpo, supervised"):
        build(Recipe(rlhf=settings(objective="ppo")), inputs(small_world), {"redness": redness})
