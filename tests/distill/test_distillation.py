"""Few-step distillation on a small world with untrained networks."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from qi2.core import rng
from qi2.core.reporter import NullReporter
from qi2.distill.config import DistillConfig
from qi2.distill.module import DistillModule
from qi2.distill.train import DistillInputs, train_distill
from qi2.models.config import SamplerConfig
from qi2.models.mmdit import MMDiT
from qi2.models.sampler import Guided, sample
from qi2.training.config import EngineConfig, OptimizerConfig
from qi2.training.encoded import EncodedSet


def settings(**changes: Any) -> DistillConfig:
    fast = {"student": OptimizerConfig(lr=1e-3, warmup=1), "fake": OptimizerConfig(lr=2e-3, warmup=1)}
    return DistillConfig(**({"steps": 5, "sizes": [64], "batch_size": 8, "fake_updates": 2, **fast} | changes))


@dataclass
class Recipe:
    """The part of a recipe that distillation reads."""

    seed: int = 0
    engine: EngineConfig = field(default_factory=EngineConfig)
    distill: DistillConfig = field(default_factory=settings)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)


def build(world: Any, config: DistillConfig, shift: float = 1.0) -> DistillModule:
    return DistillModule(MMDiT.load(world.model), EncodedSet(world.encoded), config, SamplerConfig(few_shift=shift), 0)


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_resume_after_kill_gives_same_weights(small_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: float) -> None:
    recipe = Recipe(distill=settings(ema=ema), engine=EngineConfig(checkpoint_steps=2))
    train_distill(recipe, DistillInputs(small_world.encoded, small_world.model), tmp_path / "whole", NullReporter())
    inputs, honest = DistillInputs(small_world.encoded, small_world.model, tmp_path / "ckpt"), DistillModule.generate

    def killed(self: DistillModule, *args: Any) -> Any:
        if self.steps_done == 3:
            raise KeyboardInterrupt
        return honest(self, *args)

    monkeypatch.setattr(DistillModule, "generate", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train_distill(recipe, inputs, tmp_path / "resumed", NullReporter())
    monkeypatch.setattr(DistillModule, "generate", honest)
    train_distill(recipe, inputs, tmp_path / "resumed", NullReporter())
    assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")
    assert weights(tmp_path / "whole") != weights(small_world.model)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_backward_simulation_is_the_sampler_that_the_student_is_used_with(small_world: Any, shift: float) -> None:
    module = build(small_world, settings(ti2i_share=0.0), shift)
    part = module.batch(0)
    draw = rng.generator(0, "test")
    noise = torch.randn(8, 64, 4, 4, generator=draw)
    generated = module.generate(part, 3, rng.generator(0, "test"))
    prefix = module.model.encode_condition(module.data.condition(part.samples))
    torch.testing.assert_close(generated.x.detach(), sample(Guided(module.model, prefix), noise, module.schedule))


def test_gradient_reaches_only_the_last_simulated_step(small_world: Any) -> None:
    module = build(small_world, settings(ti2i_share=0.0))
    part = module.batch(0)
    calls: list[bool] = []
    module.model.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    module.generate(part, 2, rng.generator(0, "test"))
    assert calls == [False, False, True]


def test_student_update_moves_neither_teacher_nor_fake_score(small_world: Any) -> None:
    module = build(small_world, settings())
    draw = rng.generator(0, "test")
    module.student_loss(module.generate(module.batch(0), 1, draw), draw).backward()
    assert module.model.proj_out.weight.grad.abs().sum() > 0
    assert all(p.grad is None for network in (module.teacher, module.fake) for p in network.parameters())


def test_edits_are_distilled_with_their_own_guidance(small_world: Any) -> None:
    """At the start fake score and teacher are one network: without guidance the two scores agree and nothing is learned."""
    module = build(small_world, settings(batch_size=16, ti2i_share=0.5, guidance=3.0, edit_guidance=1.0))
    draw, losses = rng.generator(0, "test"), {}
    for part in map(module.batch, range(12)):  # each is all T2I or all TI2I
        losses[part.samples[0].task] = float(module.student_loss(module.generate(part, 0, draw), draw).detach())
    assert losses["ti2i"] < 1e-8 < losses["t2i"]


def test_teacher_is_not_part_of_the_checkpoint(small_world: Any) -> None:
    names = {name.split(".")[0] for name in build(small_world, settings()).state_dict()}
    assert names == {"model", "fake"}
