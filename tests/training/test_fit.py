"""Training: a run that is killed, stopped or resumed anywhere ends with the same bytes as one that was left alone."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qi2.core.errors import Interrupted, QI2Error
from qi2.core.reporter import FileReporter, NullReporter
from qi2.core.rng import generator
from qi2.training import checkpoints
from qi2.training.config import EngineConfig, OptimizerConfig
from qi2.training.fit import BROKEN, fit
from qi2.training.optim import lr_factor, orthogonalise
from qi2.training.scale import processes
from qi2.training.share import WHOLE, Share
from qi2.training.step_module import StepModule

PLAIN = EngineConfig(dry_run=False)
EACH = replace(PLAIN, checkpoint_steps=5)


class Regression(StepModule):
    """Fits a sum with dropout, which draws from the global generator."""

    shards = True

    def __init__(self, steps: int, at: dict[int, Any] | None = None, optimizer: OptimizerConfig | None = None) -> None:
        super().__init__(steps)
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
        self.at, self.optimizer, self.seen = at or {}, optimizer or OptimizerConfig("muon", 1e-2, 1e-2, warmup=2), []

    def part(self, step: int, share: Share) -> torch.Tensor:
        return torch.randn(16, 4, generator=generator(0, "batch", step))[share.of(range(16))]

    def batch(self, step: int) -> torch.Tensor:
        return self.part(step, WHOLE)

    def names(self, batch: torch.Tensor) -> list[str]:
        return [f"row {i}" for i in range(len(batch))]

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        loss = (self.model(batch) - batch.sum(1, keepdim=True)).square().mean()
        self.seen.append(self.steps_done)
        return self.at.get(self.steps_done, lambda x: x)(loss)

    def configure_optimizers(self) -> Any:
        return self.scheduled(self.model, self.optimizer)


def die(_: Any) -> None:
    raise KeyboardInterrupt


def stop(loss: Any) -> Any:
    os.kill(os.getpid(), signal.SIGTERM)
    return loss


def weights(module: StepModule) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.model.parameters()])


def train(module: StepModule, folder: Path | None = None, engine: EngineConfig = EACH, ema: float = 0.0, reporter: Any = None) -> StepModule:
    fit(module, "test", reporter or NullReporter(), engine=engine, checkpoints=folder, ema=ema)
    return module


@pytest.mark.parametrize("ema", [0.0, 0.8])
@pytest.mark.parametrize("workers", [0, 2])
def test_resume_after_kill_gives_same_weights(tmp_path, ema, workers):
    engine = replace(EACH, workers=workers)
    Regression.prefetch = workers > 0
    try:
        whole = train(Regression(12), ema=ema, engine=engine)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(Regression(12, {8: die}), tmp_path, engine, ema)
        resumed = train(Regression(12), tmp_path, engine, ema)
    finally:
        Regression.prefetch = False
    assert resumed.steps_done == 12 and min(resumed.seen) == 5
    assert torch.equal(weights(whole), weights(resumed))


@pytest.mark.parametrize("at", range(1, 13))
def test_resume_from_every_position_gives_same_weights_and_curves(tmp_path, at):
    whole = train(Regression(12), reporter=FileReporter(tmp_path / "whole"), engine=PLAIN)
    with pytest.raises(Interrupted, match=f"after step {at} of 12"):
        train(Regression(12, {at - 1: stop}), tmp_path / "checkpoints", PLAIN, reporter=FileReporter(tmp_path / "stopped"))
    resumed = train(Regression(12), tmp_path / "checkpoints", PLAIN, reporter=FileReporter(tmp_path / "resumed"))
    assert (tmp_path / "resumed" / "curves.csv").read_bytes() == (tmp_path / "whole" / "curves.csv").read_bytes()
    assert torch.equal(weights(whole), weights(resumed))


def test_a_complete_run_is_not_trained_again(tmp_path):
    whole = train(Regression(6), tmp_path, ema=0.5)
    again = train(Regression(6), tmp_path, ema=0.5)
    assert again.seen == []
    assert torch.equal(weights(whole), weights(again))


def test_a_damaged_checkpoint_is_passed_over(tmp_path, capsys):
    whole = train(Regression(12))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(Regression(12, {11: die}), tmp_path)
    state = checkpoints.steps(tmp_path)[0] / checkpoints.STATE
    state.write_bytes(state.read_bytes()[:-100])
    resumed = train(Regression(12), tmp_path)
    assert min(resumed.seen) == 5 and "passing over" in capsys.readouterr().err
    assert torch.equal(weights(whole), weights(resumed))


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    train(Regression(20), tmp_path, replace(EACH, checkpoint_steps=2, keep=3))
    assert [folder.name for folder in checkpoints.steps(tmp_path)] == ["step-00000020", "step-00000018", "step-00000016"]


def test_a_checkpoint_of_another_run_is_refused_with_what_differs_unless_told_otherwise(tmp_path):
    with pytest.raises(Interrupted):
        train(Regression(12, {8: stop}), tmp_path)
    with pytest.raises(QI2Error, match="steps: 12 then, 14 now.*on_change"):
        train(Regression(14), tmp_path)
    assert 9 in train(Regression(14), tmp_path, replace(EACH, on_change="accept")).seen
    assert 0 in train(Regression(16), tmp_path, replace(EACH, on_change="restart")).seen


def test_a_run_with_ema_ends_with_the_average_of_its_weights():
    module, seen = Regression(6), []
    module.on_train_batch_end = lambda *_: seen.append(weights(module).clone())
    train(module, ema=0.5)
    average = seen[0]
    for later in seen[1:]:
        average = 0.5 * average + 0.5 * later
    assert torch.allclose(weights(module), average, atol=1e-6)
    assert not torch.allclose(weights(module), seen[-1], atol=1e-4)


def test_an_update_with_a_non_finite_gradient_is_left_out():
    bad = train(Regression(6, {3: lambda loss: loss * float("nan")}))
    assert bad.guards[0].bad == 1
    assert torch.isfinite(weights(bad)).all()


def test_non_finite_gradients_again_and_again_end_the_run_and_name_the_samples(tmp_path):
    with pytest.raises(QI2Error, match="step 4: the gradient was not finite 3 times in a row"):
        train(Regression(9, {step: lambda loss: loss * float("inf") for step in range(1, 9)}), tmp_path, replace(EACH, bad_steps=3))
    assert json.loads((tmp_path / BROKEN).read_text())["samples"][:2] == ["row 0", "row 1"]


def test_the_samples_of_all_micro_batches_are_named(tmp_path):
    class Rows(Regression):
        def names(self, batch: torch.Tensor) -> list[str]:
            return [f"row {value:.4f}" for value in batch[:, 0].tolist()]

    module = Rows(3, {1: lambda loss: loss * float("inf")})
    with pytest.raises(QI2Error, match="not finite"):
        train(module, tmp_path, replace(EACH, accumulate=4, bad_steps=1))
    assert json.loads((tmp_path / BROKEN).read_text())["samples"] == module.names(module.batch(1))


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_checkpoint_does_not_push_out_those_that_come_after_it(tmp_path, keep):
    whole = train(Regression(20))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(Regression(20, {16: die}), tmp_path, EACH)
    (tmp_path / "step-00000015" / checkpoints.STATE).write_bytes(b"damaged")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(Regression(20, {13: die}), tmp_path, replace(EACH, checkpoint_steps=2, keep=keep))
    assert [path.name for path in checkpoints.steps(tmp_path)] == ["step-00000012", "step-00000010"][:keep]
    assert torch.equal(weights(train(Regression(20), tmp_path, EACH)), weights(whole))


def test_a_run_without_checkpoints_to_go_on_from_is_refused(tmp_path):
    with pytest.raises(QI2Error, match="engine.keep is 0"):
        train(Regression(3), tmp_path, replace(EACH, keep=0))


def test_what_another_process_has_discarded_is_not_asked(tmp_path):
    (tmp_path / "step-00000005").mkdir()
    assert not checkpoints.agree(tmp_path / "step-00000005", {}, "restart")


def test_flop_utilisation_counts_what_each_batch_is(monkeypatch):
    class Growing(Regression):
        def part(self, step: int, share: Share) -> torch.Tensor:
            return torch.zeros(16 if step < 2 else 64, 4)

        def largest_batch(self) -> torch.Tensor:
            return self.part(3, WHOLE)

        def work(self, batch: torch.Tensor) -> float:
            return float(len(batch))

    class Says(NullReporter):
        flops: list[float] = []

        def metrics(self, values: Any, step: int) -> None:
            self.flops.append(values["speed/flop_utilisation"] * values["speed/step_s"])

    monkeypatch.setattr("qi2.training.run.matmul_rate", lambda *_: 1.0)
    fit(Growing(4), "t", Says(), engine=EngineConfig(precision="32", curve_points=4))
    first, *others = Says.flops
    assert [other / first for other in others] == pytest.approx([1.0, 4.0, 4.0])


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_processes_that_the_settings_do_not_know_of_are_refused(monkeypatch, name):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv(name, "16")
    with pytest.raises(QI2Error, match="started 16 processes, but engine.devices=1 times engine.nodes=1 are 1"):
        train(Regression(3))
    assert processes(replace(PLAIN, devices=8, nodes=2), shards=True) == 8
    with pytest.raises(QI2Error, match="trains in one process"):
        processes(PLAIN, shards=False)


def test_a_spike_is_left_out_and_counted():
    settings = OptimizerConfig(lr=1e-3, spike_sigma=6.0, spike_window=8)
    plain = train(Regression(20, optimizer=settings))
    spiked = train(Regression(20, {15: lambda loss: loss * 1e4}, settings))
    assert (plain.guards[0].spikes, spiked.guards[0].spikes) == (0, 1)


def test_accumulation_keeps_the_result():
    class Plain(Regression):
        def __init__(self, steps: int) -> None:
            super().__init__(steps, optimizer=OptimizerConfig(lr=1e-2))
            self.model[2] = torch.nn.Identity()

    one, four = train(Plain(8)), train(Plain(8), engine=replace(EACH, accumulate=4))
    assert four.steps_done == 8
    assert torch.allclose(weights(one), weights(four), atol=1e-6)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(QI2Error, match="batch of 16 does not divide.*multiple of 3"):
        train(Regression(3), engine=replace(EACH, accumulate=3))


def test_watching_does_not_disturb_training():
    watched = EngineConfig(dry_run=True, curve_points=12)
    assert torch.equal(weights(train(Regression(12), engine=watched)), weights(train(Regression(12), engine=replace(PLAIN, curve_points=1))))


def test_orthogonalised_matrices_have_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonalise(torch.randn(2, 6, 10)))
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_learning_rate_warms_up_and_decays():
    config = OptimizerConfig(warmup=10, decay_share=0.5, floor=0.1)
    factors = [lr_factor(step, 100, config) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[20] == 1.0
    assert factors[-1] == pytest.approx(0.1)
