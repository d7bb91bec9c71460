"""What accompanies the loop: the average, curves and progress, checkpoints, and the end when it is asked for."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from qi2.core.progress import Progress
from qi2.core.reporter import Reporter
from qi2.training import checkpoints
from qi2.training.dry_run import dry_run
from qi2.training.interrupt import Interrupt
from qi2.training.scale import gather
from qi2.training.speed import matmul_rate
from qi2.training.step_module import StepModule

DETAILS = "train/loss_"  # curves that the progress line leaves out


class Run(pl.Callback):
    """One training run. ``folder`` None: no checkpoints."""

    def __init__(self, label: str, reporter: Reporter, folder: Path | None, facts: Mapping[str, Any]) -> None:
        self.label, self.reporter, self.folder, self.facts = label, reporter, folder, facts
        self.interrupt = Interrupt()
        self.saved_at, self.save_took, self.saved_step = time.monotonic(), 0.0, -1

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StepModule)
        module.restore_guards()
        self.interrupt.install()
        self.saved_step = module.steps_done
        if module.engine.dry_run and module.automatic_optimization and module.steps_done < module.total_steps:
            before = module.tally.state_dict()
            largest = module.largest_batch()
            module.speed.flops = dry_run(module, largest) / module.work(largest)
            module.tally.load_state_dict(before)
            dtype = torch.bfloat16 if module.engine.precision == "bf16" else torch.float32
            module.speed.rate = matmul_rate(module.device, dtype)
        self.progress = Progress(self.label, module.total_steps, quiet=not trainer.is_global_zero, done=module.steps_done).__enter__()
        self.every = max(1, module.total_steps // max(module.engine.curve_points, 1))
        self.look = max(1, module.total_steps // max(module.engine.pictures, 1))
        module.speed.figures()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(module, StepModule)
        if module.automatic_optimization:
            module.observe({"train/loss": outputs["loss"] * module.share.micros})  # Lightning gives a micro-batch its part of the mean
        module.speed.samples += module.size(batch) * module.share.ranks
        module.speed.work += module.work(batch)
        if (batch_idx + 1) % module.share.micros:
            return
        if module.average is not None:
            module.average.update(module.network, first=module.steps_done == 0)
        module.steps_done += 1
        module.speed.steps += 1
        self.progress.update(1, **{name: value for name, value in module.tally.latest.items() if not name.startswith(DETAILS)})
        if module.steps_done % self.every == 0 or module.finished:
            self._point(module)
        if module.steps_done % self.look == 0 or module.finished:
            self._look(module)
        stop, due = self._agreed(trainer, self.interrupt.asked, self._due(module))
        if self.folder is not None and (due or stop or module.finished):
            self.save(trainer, module)
        if stop or module.ended:
            trainer.should_stop = True

    def _point(self, module: StepModule) -> None:
        """A point of every curve."""
        values = module.tally.means()
        for index, guard in enumerate(module.guards):
            ending = "" if index == 0 else f"_{index}"
            values |= {f"train/not_finite{ending}": float(guard.bad), f"train/spikes{ending}": float(guard.spikes)}
        module.tally.clear()
        self.reporter.metrics(values | module.speed.figures(), module.steps_done)

    def _look(self, module: StepModule) -> None:
        """A picture of what the network makes of its fixed inputs, by its average where it has one."""
        with module.average.instead(module.network) if module.average is not None else nullcontext():
            picture = module.picture() if module.engine.pictures else None
        if picture is not None:
            self.reporter.image("samples/fixed", picture, module.steps_done)

    def _due(self, module: StepModule) -> bool:
        """Whether it is time for a checkpoint."""
        engine = module.engine
        if engine.checkpoint_steps:
            return module.steps_done % engine.checkpoint_steps == 0
        return time.monotonic() - self.saved_at > max(engine.checkpoint_seconds, self.save_took / max(engine.checkpoint_share, 1e-6))

    def _agreed(self, trainer: pl.Trainer, *asked: bool) -> list[bool]:
        """What any process asks for."""
        if trainer.world_size == 1:
            return list(asked)
        flags = torch.tensor(asked, dtype=torch.int32, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        return [bool(flag) for flag in flags.tolist()]

    def save(self, trainer: pl.Trainer, module: StepModule) -> None:
        """Publish a checkpoint of now."""
        assert self.folder is not None
        if self.saved_step == module.steps_done:
            return
        start = time.monotonic()
        with module.speed.saving():
            checkpoints.save(trainer, self.folder, module.steps_done, self.facts, self.reporter, module.engine.keep)
        self.saved_step, self.saved_at = module.steps_done, time.monotonic()
        self.save_took = self.saved_at - start

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StepModule)
        self.progress.__exit__(None, None, None)
        self.interrupt.uninstall()
        if module.average is not None:
            module.average.give(module.network)
        if module.plain:
            module.replace_network(gather(module.network, module.plain[0]))

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self.interrupt.uninstall()
