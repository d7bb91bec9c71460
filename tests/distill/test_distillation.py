"""Few-step distillation on a small world with untrained networks."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.distill.config import DistillConfig
from qi2.distill.latents import Draws
from qi2.distill.module import DistillModule
from qi2.distill.train import DistillInputs, train_distill
from qi2.models.config import LoRAConfig, SamplerConfig
from qi2.models.lora import apply_adapter, merge, read_adapter
from qi2.models.mmdit import MMDiT
from qi2.models.sampler import Guided, sample
from qi2.training.config import EngineConfig, OptimizerConfig
from qi2.training.encoded import EncodedSet
from qi2.training.fit import fit


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


def build(world: Any, config: DistillConfig, sampler: SamplerConfig | None = None) -> DistillModule:
    return DistillModule(MMDiT.load(world.model), EncodedSet(world.encoded), config, sampler or SamplerConfig(), 0)


def draws(n: int = 8) -> Draws:
    return Draws(0, "test", range(n))


def step_with(module: DistillModule, exit_step: int) -> int:
    """A step of training in which the student learns at this step of its own."""
    for module.steps_done in range(1000):
        if module.exit_step() == exit_step:
            return module.steps_done
    raise AssertionError(exit_step)


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [{}, {"ema": 0.5, "fake_warmup": 2}, {"schedules": "decoupled", "fake_warmup": 4, "edit_guidance": 1.0}],
    ids=["plain", "average", "decoupled"],
)
def test_resume_after_kill_gives_same_weights_and_fake_score(
    small_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Killed in its fourth step, which in the last case is one of the warm-up; all tensors are compared, also of fake score and average."""
    recipe = Recipe(distill=settings(**changes), engine=EngineConfig(checkpoint_steps=2))
    whole = DistillInputs(small_world.encoded, small_world.model, tmp_path / "whole_ckpt")
    train_distill(recipe, whole, tmp_path / "whole", NullReporter())
    inputs, honest = replace(whole, checkpoints=tmp_path / "ckpt"), DistillModule.generate

    def killed(self: DistillModule, *args: Any) -> Any:
        if self.steps_done == 3:
            raise KeyboardInterrupt
        return honest(self, *args)

    monkeypatch.setattr(DistillModule, "generate", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train_distill(recipe, inputs, tmp_path / "resumed", NullReporter())
    monkeypatch.setattr(DistillModule, "generate", honest)
    train_distill(recipe, inputs, tmp_path / "resumed", NullReporter())
    assert weights(tmp_path / "resumed") == weights(tmp_path / "whole") != weights(small_world.model)
    last = f"step-{recipe.distill.steps + recipe.distill.fake_warmup:08d}"
    one, other = (torch.load(tmp_path / folder / last / "state.ckpt", weights_only=True) for folder in ("whole_ckpt", "ckpt"))
    assert one["state_dict"].keys() == other["state_dict"].keys()
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    torch.testing.assert_close(one["optimizer_states"], other["optimizer_states"], rtol=0, atol=0)


@pytest.mark.parametrize(("steps", "shift"), [(1, 3.0), (2, 3.0), (4, 1.0), (4, 3.0), (8, 3.0)])
def test_backward_simulation_is_the_sampler_that_the_student_is_used_with(small_world: Any, steps: int, shift: float) -> None:
    module = build(small_world, settings(ti2i_share=0.0), SamplerConfig(few_steps=steps, few_shift=shift))
    part = module.batch(0)
    noise = draws().normal([s.target.shape for s in part.samples], module.device)
    module.steps_done = step_with(module, steps - 1)
    generated = module.generate(part, draws())
    prefix = module.model.encode_condition(module.data.condition(part.samples))
    torch.testing.assert_close(generated.fixed, sample(Guided(module.model, prefix), noise, module.schedule))


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_every_step_of_the_student_is_trained(small_world: Any, steps: int) -> None:
    module, found = build(small_world, settings(), SamplerConfig(few_steps=steps)), set()
    for module.steps_done in range(100):
        found.add(module.exit_step())
    assert found == set(range(steps))


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_other_numbers_of_steps_train(small_world: Any, tmp_path: Path, steps: int) -> None:
    recipe = Recipe(distill=settings(steps=2), sampler=SamplerConfig(few_steps=steps))
    metrics = train_distill(recipe, DistillInputs(small_world.encoded, small_world.model), tmp_path / "out", NullReporter())
    assert metrics["distill/evaluations"] == steps
    assert weights(tmp_path / "out") != weights(small_world.model)


def test_gradient_reaches_only_the_last_simulated_step(small_world: Any) -> None:
    module = build(small_world, settings(ti2i_share=0.0))
    calls: list[bool] = []
    module.model.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    module.steps_done = step_with(module, 2)
    module.generate(module.batch(0), draws())
    assert calls == [False, False, True]


def test_a_sample_is_drawn_alike_in_any_batch(small_world: Any) -> None:
    """Among other samples, and beside one of another aspect, for which the batch becomes a list."""
    module = build(small_world, settings(ti2i_share=0.0))
    part = module.batch(0)
    wide = replace(part, samples=[*part.samples[:-1], replace(part.samples[-1], target=torch.zeros(64, 2, 8))])
    one, other = (module.generate(p, Draws(0, "test", p.numbers)) for p in (part, wide))
    assert isinstance(one.x, torch.Tensor) and isinstance(other.x, list)
    torch.testing.assert_close(torch.stack(other.x[:-1]), one.x[:-1])
    gradients = [module.gradient(generated, Draws(1, "test", part.numbers)) for generated in (one, other)]
    torch.testing.assert_close(torch.stack(gradients[1][:-1]), gradients[0][:-1], rtol=1e-4, atol=1e-5)


def moved(network: torch.nn.Module, before: MMDiT) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(network.parameters(), before.parameters(), strict=True))


class Watch(DistillModule):
    """Remembers after every step whether student and fake score have moved, and both learning rates."""

    def on_train_start(self) -> None:
        self.seen: list[tuple[bool, bool]] = []
        self.rates: list[list[float]] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen.append((moved(self.model, self.teacher), moved(self.fake, self.teacher)))
        self.rates.append([scheduler.get_last_lr()[0] for scheduler in self.lr_schedulers()])


def test_micro_batches_give_the_same_student(small_world: Any, tmp_path: Path) -> None:
    for n in (1, 4):
        recipe = Recipe(distill=settings(schedules="decoupled", fake_warmup=1), engine=EngineConfig(accumulate=n))
        train_distill(recipe, DistillInputs(small_world.encoded, small_world.model), tmp_path / str(n), NullReporter())
    one, four = (MMDiT.load(tmp_path / str(n)) for n in (1, 4))
    for a, b in zip(one.parameters(), four.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_warm_up_trains_the_fake_score_alone_one_update_a_step(small_world: Any) -> None:
    config = settings(steps=2, fake_warmup=3)
    module = Watch(MMDiT.load(small_world.model), EncodedSet(small_world.encoded), config, SamplerConfig(), 0)
    fit(module, "distill", NullReporter())
    assert module.seen == [(False, True)] * 3 + [(True, True)] * 2
    student, fake = module.optimizers()
    updates = [max(int(state["step"]) for state in o.state_dict()["state"].values()) for o in (student, fake)]
    assert updates == [2, 3 + 2 * config.fake_updates]


def test_learning_rate_of_the_student_waits_for_the_fake_scores_warm_up(small_world: Any) -> None:
    """Its own warm-up is over four updates, and its decay over the last four of its ten; those of the fake score are over all steps."""
    rate = OptimizerConfig(lr=1.0, warmup=4, floor=0.0)
    module = Watch(
        MMDiT.load(small_world.model), EncodedSet(small_world.encoded), settings(steps=10, fake_warmup=6, student=rate, fake=rate), SamplerConfig(), 0
    )
    fit(module, "distill", NullReporter())
    student, fake = zip(*module.rates, strict=True)
    assert student == pytest.approx([0.25] * 6 + [0.5, 0.75, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])
    assert fake == pytest.approx([0.5, 0.75] + [1] * 7 + [left / 6.4 for left in (6, 5, 4, 3, 2, 1, 0)])


def test_student_update_moves_neither_teacher_nor_fake_score(small_world: Any) -> None:
    module = build(small_world, settings())
    streams = draws()
    generated = module.generate(module.batch(0), streams)
    (generated.x * module.gradient(generated, streams)).sum().backward()
    assert module.model.proj_out.weight.grad.abs().sum() > 0
    assert all(p.grad is None for network in (module.teacher, module.fake) for p in network.parameters())


@pytest.mark.parametrize("schedules", ["shared", "decoupled"])
def test_edits_are_distilled_with_their_own_guidance(small_world: Any, schedules: str) -> None:
    """At the start fake score and teacher are one network: without guidance the two scores agree and nothing is learned."""
    module = build(small_world, settings(batch_size=16, ti2i_share=0.5, guidance=3.0, edit_guidance=1.0, schedules=schedules))
    sizes = {}
    for part in map(module.batch, range(12)):  # each is all T2I or all TI2I
        streams = draws(16)
        sizes[part.samples[0].task] = float(module.gradient(module.generate(part, streams), streams).abs().max())
    assert sizes["ti2i"] < 1e-4 < sizes["t2i"]


def test_guidance_acts_between_data_and_the_students_own_time(small_world: Any) -> None:
    """t = 1 is noise here, so the paper's (t, 1) becomes (0, t): never noisier than what the student is given."""
    module = build(small_world, settings())
    t = torch.full((2000,), 0.75)
    times = module.augmentation_times(t, draws(2000))
    assert 0 <= times.min() < 0.01 and 0.74 < times.max() < 0.75
    assert float(times.mean()) == pytest.approx(0.375, abs=0.02)


def test_with_decoupled_schedules_the_teacher_sees_cleaner_states_for_guidance_alone(small_world: Any) -> None:
    module = build(small_world, settings(ti2i_share=0.0, schedules="decoupled", t_mean=9.0, t_std=0.01))
    module.steps_done = step_with(module, 3)  # the student's last step, at 0.5 with shift 3
    generated = module.generate(module.batch(0), draws())
    seen: list[torch.Tensor] = []
    module.teacher.register_forward_hook(lambda _, inputs, __: seen.append(inputs[1]))
    module.gradient(generated, draws())
    matching, conditional, unconditional = seen
    assert matching.min() > 0.99  # of the distribution, at the times that the configuration gives
    assert torch.equal(conditional, unconditional)
    assert (conditional < generated.t).all() and torch.equal(generated.t, torch.full((8,), 0.5))


def test_adapters_train_over_weights_that_stand_in_memory_once(small_world: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    recipe = Recipe(distill=settings(lora=LoRAConfig(rank=2)))
    module = build(small_world, recipe.distill)
    assert module.model.proj_out.weight is module.fake.proj_out.weight is module.teacher.proj_out.weight
    ours, theirs = ({id(p) for p in network.parameters() if p.requires_grad} for network in (module.model, module.fake))
    assert ours and not ours & theirs
    train_distill(recipe, DistillInputs(small_world.encoded, small_world.model), tmp_path / "out", NullReporter())
    start, end = MMDiT.load(small_world.model), MMDiT.load(tmp_path / "out")
    merged = merge(apply_adapter(start, read_adapter(tmp_path / "out" / "lora", start.config.layers)))
    assert all(torch.equal(a, b) for a, b in zip(merged.parameters(), end.parameters(), strict=True))
    changed = {name for name, p in MMDiT.load(small_world.model).named_parameters() if not torch.equal(p, end.get_parameter(name))}
    assert changed and all(name.startswith("blocks.") for name in changed)


class Kept(NullReporter):
    """Keeps the points of the curves."""

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.points.append(dict(values))


def test_the_teacher_is_the_model_that_the_configuration_names(small_world: Any, tmp_path: Path) -> None:
    from tasks import distill

    (tmp_path / "encoded").symlink_to(small_world.encoded)
    for teacher in ("sft", "rlhf"):
        (tmp_path / teacher).symlink_to(small_world.model)
        distill.run(cast(Any, Recipe(distill=settings(steps=0, teacher=teacher))), tmp_path, tmp_path / "out" / teacher, NullReporter())
        assert weights(tmp_path / "out" / teacher) == weights(small_world.model)
        (tmp_path / teacher).unlink()


def test_curves_say_where_the_time_of_a_step_goes(small_world: Any, tmp_path: Path) -> None:
    kept, parts = Kept(), ("generate", "fake_score", "real_score", "student_update", "fake_update")
    train_distill(Recipe(), DistillInputs(small_world.encoded, small_world.model), tmp_path / "out", kept)
    points = [point for point in kept.points if "speed/step_s" in point]
    assert len(points) == 5
    for point in points:
        spent = [point[f"speed/{part}_s"] for part in parts]
        assert min(spent) > 0 and sum(spent) < point["speed/step_s"]


@pytest.mark.parametrize(
    ("changes", "named"), [({"teacher": "vae"}, "teacher"), ({"schedules": "both"}, "schedules"), ({"lora": LoRAConfig(path="x")}, "lora")]
)
def test_a_choice_that_does_not_exist_is_an_error_that_names_it(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(QI2Error, match=f"distill.{named}"):
        settings(**changes).check()


def test_teacher_is_not_part_of_the_checkpoint(small_world: Any) -> None:
    names = {name.split(".")[0] for name in build(small_world, settings()).state_dict()}
    assert names == {"model", "fake"}
