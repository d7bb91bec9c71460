"""Training: a run that is killed and continued gives the same weights as one that was not."""

import pytest
import torch

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.core.rng import generator
from qi2.training.config import OptimizerConfig
from qi2.training.fit import StepModule, fit
from qi2.training.optim import lr_factor, orthogonalise


class Regression(StepModule):
    def __init__(self, steps, die_at=None):
        super().__init__(steps)
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        self.die_at = die_at

    def batch(self, step):
        return torch.randn(16, 4, generator=generator(0, "batch", step))

    def training_step(self, batch, _):
        if self.steps_done == self.die_at:
            raise KeyboardInterrupt
        loss = (self.net(batch) - batch.sum(1, keepdim=True)).square().mean()
        self.log("test/loss", loss.detach())
        return loss

    def configure_optimizers(self):
        return self.scheduled(self.net, OptimizerConfig("muon", 1e-2, 1e-2, warmup=2))


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.net.parameters()])


@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_resume_after_kill_gives_same_weights(tmp_path, ema):
    whole = Regression(12)
    fit(whole, "whole", NullReporter(), ema=ema)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(Regression(12, die_at=8), "killed", NullReporter(), checkpoints=tmp_path, every=5, ema=ema)
    resumed = Regression(12)
    fit(resumed, "resumed", NullReporter(), checkpoints=tmp_path, every=5, ema=ema)
    assert resumed.steps_done == 12
    assert torch.equal(weights(whole), weights(resumed))


def test_a_run_with_ema_ends_with_the_average_of_its_weights():
    module, seen = Regression(6), []
    module.on_train_batch_end = lambda *_: seen.append(weights(module).clone())
    fit(module, "ema", NullReporter(), ema=0.5)
    average = seen[0]
    for later in seen[1:]:
        average = 0.5 * average + 0.5 * later
    assert torch.allclose(weights(module), average, atol=1e-6)
    assert not torch.allclose(weights(module), seen[-1], atol=1e-4)


def test_a_loss_that_is_not_finite_stops_the_run():
    class Broken(Regression):
        def training_step(self, batch, _):
            loss = super().training_step(batch, _) * float("inf")
            self.log("test/loss", loss.detach())
            return loss

    with pytest.raises(QI2Error, match="not finite at step"):
        fit(Broken(3), "broken", NullReporter())


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
