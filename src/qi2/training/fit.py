"""The one training loop: Lightning's, fed by batches that are a pure function of the step.

A method supplies a `StepModule`: what a step's batch is and what its loss is. Because batch(step) depends on nothing else, a run
resumed from a checkpoint sees exactly what the uninterrupted run would have seen.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.reporter import Reporter
from qi2.training.config import OptimizerConfig
from qi2.training.optim import build_optimizer, lr_factor

LAST = "last.ckpt"


class _Batches(IterableDataset):  # type: ignore[type-arg]
    def __init__(self, module: "StepModule") -> None:
        self.module = module

    def __iter__(self) -> Iterator[Any]:
        for step in range(self.module.steps_done, self.module.total_steps):
            yield self.module.batch(step)


class StepModule(pl.LightningModule):
    """Base of all methods. Subclasses implement `batch(step)` and `training_step(batch, _)`."""

    def __init__(self, total_steps: int) -> None:
        super().__init__()
        self.total_steps, self.steps_done = total_steps, 0
        self.prefetch = False  # whether a second process makes the batches; worth it where they are decoded or drawn

    def batch(self, step: int) -> Any:
        """The batch of one step; a pure function of the step (and the seed)."""
        raise NotImplementedError

    def train_dataloader(self) -> Any:
        return DataLoader(_Batches(self), batch_size=None, num_workers=int(self.prefetch), multiprocessing_context="fork" if self.prefetch else None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["steps_done"] = self.steps_done

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.steps_done = checkpoint["steps_done"]

    def scheduled(self, network: torch.nn.Module, config: OptimizerConfig, hidden: Any = lambda name: True) -> dict[str, Any]:
        """An optimiser with the warm-up and decay of ``config`` over all steps, for `configure_optimizers`."""
        optimizer = build_optimizer(network, config, hidden)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, self.total_steps, config))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Watch(pl.Callback):
    """Progress lines, curves and the last checkpoint."""

    def __init__(self, label: str, reporter: Reporter, checkpoints: Path | None, every: int, log_every: int) -> None:
        self.label, self.reporter, self.checkpoints, self.every, self.log_every = label, reporter, checkpoints, every, log_every
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StepModule)
        self.progress = Progress(self.label, module.total_steps).__enter__()
        self.progress.done = module.steps_done

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(module, StepModule)
        module.steps_done += 1  # here and not in the module's own hook, which runs after this one: a checkpoint must count its step
        step, values = module.steps_done, {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not all(torch.isfinite(torch.tensor(value)) for value in values.values()):
            raise QI2Error(f"{self.label}: a loss is not finite at step {step}: {values}; lower the learning rate and start again")
        self.progress.update(1, **values)
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        if step % self.log_every == 0 or step == module.total_steps:
            self.reporter.metrics({name: total / self.counts[name] for name, total in self.sums.items()}, step)
            self.sums, self.counts = {}, {}
        if self.checkpoints is not None and step % self.every == 0 and step < module.total_steps:
            save_checkpoint(trainer, self.checkpoints)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.progress.__exit__(None, None, None)


def save_checkpoint(trainer: pl.Trainer, folder: Path) -> None:
    """Replace the folder's last checkpoint as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(folder / f".{LAST}")
    (folder / f".{LAST}").rename(folder / LAST)


def fit(module: StepModule, label: str, reporter: Reporter, *, clip: float = 1.0, checkpoints: Path | None = None, every: int = 200, ema: float = 0.0) -> None:
    """Train ``module`` for its steps; continue from the last checkpoint in ``checkpoints`` when there is one.

    With ``ema`` in (0, 1) the module ends with the exponential moving average of its weights, of that decay per step.

    Raises QI2Error when a logged loss is not finite.
    """
    last = None if checkpoints is None or not (checkpoints / LAST).exists() else checkpoints / LAST
    trainer = pl.Trainer(
        max_epochs=1,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=clip if module.automatic_optimization else None,
        callbacks=[*([EMAWeightAveraging(decay=ema)] if ema else []), _Watch(label, reporter, checkpoints, every, max(1, module.total_steps // 60))],
    )
    module.train()
    if module.total_steps > 0:
        trainer.fit(module, ckpt_path=last, weights_only=True if last else None)
    module.eval()
    if checkpoints is not None:
        (checkpoints / LAST).unlink(missing_ok=True)


def to_tensor(images: list[Any]) -> Tensor:
    """PIL RGB images of one size to (B, 3, H, W) in [-1, 1]."""
    import numpy as np

    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).float() / 127.5 - 1
