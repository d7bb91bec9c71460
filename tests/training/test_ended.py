"""A run that its method ends before the last step: in order, saved, and ended for good."""

from pathlib import Path
from typing import Any

import torch

from qi2.core.reporter import FileReporter, Reporters
from qi2.core.rng import generator
from qi2.training import checkpoints
from qi2.training.config import EngineConfig, OptimizerConfig
from qi2.training.fit import fit
from qi2.training.manual import ManualModule
from qi2.training.step_module import StepModule

ENGINE = EngineConfig(dry_run=False, checkpoint_steps=100, curve_points=2)


class Ending(StepModule):
    """Ends itself with step ``last``."""

    def __init__(self, last: int) -> None:
        super().__init__(20)
        torch.manual_seed(0)
        self.model, self.last, self.seen = torch.nn.Linear(4, 1), last, 0

    def batch(self, step: int) -> torch.Tensor:
        return torch.randn(8, 4, generator=generator(0, "batch", step))

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        self.seen += 1
        if self.steps_done + 1 == self.last:
            self.ended = "it is enough"
        return self.model(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return self.scheduled(self.model, OptimizerConfig(warmup=1))


def test_run_ends_with_the_step_that_says_so_and_saves_it(tmp_path: Path) -> None:
    module = Ending(7)
    fit(module, "test", Reporters(FileReporter(tmp_path / "out")), engine=ENGINE, checkpoints=tmp_path / "ckpt")
    assert (module.seen, module.steps_done, module.ended) == (7, 7, "it is enough")
    assert [folder.name for folder in checkpoints.steps(tmp_path / "ckpt")] == ["step-00000007"]
    assert "\n7,train/loss," in (tmp_path / "out" / "curves.csv").read_text()


def test_ended_run_that_is_started_again_does_nothing_more(tmp_path: Path) -> None:
    first, again = Ending(7), Ending(0)
    fit(first, "test", FileReporter(tmp_path / "out"), engine=ENGINE, checkpoints=tmp_path / "ckpt")
    curves = (tmp_path / "out" / "curves.csv").read_bytes()
    fit(again, "test", FileReporter(tmp_path / "again"), engine=ENGINE, checkpoints=tmp_path / "ckpt")
    assert (again.seen, again.steps_done, again.ended) == (0, 7, "it is enough")
    assert torch.equal(again.model.weight, first.model.weight)
    assert (tmp_path / "again" / "curves.csv").read_bytes() == curves


class Summed(ManualModule):
    """One update from a loss in ``pieces``."""

    def __init__(self, pieces: int) -> None:
        super().__init__(3)
        torch.manual_seed(0)
        self.model, self.pieces = torch.nn.Linear(4, 1), pieces

    def batch(self, step: int) -> torch.Tensor:
        return torch.randn(8, 4, generator=generator(0, "batch", step))

    def training_step(self, batch: torch.Tensor, _: int) -> None:
        self.update_all(self.model(piece).square().mean() / self.pieces for piece in batch.chunk(self.pieces))
        self.advance()

    def configure_optimizers(self) -> Any:
        return self.scheduled(self.model, OptimizerConfig(lr=1e-2, warmup=1))


def test_an_update_from_pieces_is_that_of_the_whole() -> None:
    one, four = Summed(1), Summed(4)
    for module in (one, four):
        fit(module, "test", Reporters(), engine=ENGINE)
    torch.testing.assert_close(one.model.weight, four.model.weight)
