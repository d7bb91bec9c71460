"""What a training method supplies: the batch of a step, its loss, and its optimisers. Everything else is the engine's.

A batch is a pure function of the step, and noise is keyed by step and sample. So a resumed run sees what the uninterrupted one would
have seen, and any number of processes sees together what one would.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import lightning.pytorch as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from qi2.core import rng
from qi2.training.average import Average
from qi2.training.config import EngineConfig, OptimizerConfig
from qi2.training.guard import Guard
from qi2.training.interrupt import ignore_in_worker
from qi2.training.optim import build_optimizer, lr_factor
from qi2.training.scale import shard
from qi2.training.share import WHOLE, Share
from qi2.training.speed import Feed, Speed
from qi2.training.tally import Number, Tally


class StepModule(pl.LightningModule):
    """Base of all methods. Subclasses implement `batch`, `training_step(batch, _)` and `configure_optimizers`.

    shards: whether several processes may share a step; such a method implements `part`. prefetch: whether other processes make the
    batches; worth it where they are decoded or drawn. eager: whether making a batch takes so long that it begins with the step before; others
    are made while gradients are computed.
    """

    shards = False
    prefetch = False
    eager = False

    def __init__(self, total_steps: int) -> None:
        super().__init__()
        self.total_steps, self.steps_done = total_steps, 0
        self.ended = ""  # why the run ends with this step; a method sets it, on every process alike
        self.engine, self.share, self.tally = EngineConfig(), WHOLE, Tally()
        self.guards: list[Guard] = []
        self.speed, self.feed = Speed(), cast(Any, None)
        self.current: list[Any] = []  # the micro-batches of the step so far
        self.average: Average | None = None
        self.ema, self.prepared = 0.0, False
        self.plain: list[nn.Module] = []  # the network's structure before it was sharded, without weights; in a list: no part of the module

    def batch(self, step: int) -> Any:
        """The whole batch of one step; a pure function of the step and the seed."""
        raise NotImplementedError

    def part(self, step: int, share: Share) -> Any:
        """The given share of a step's batch."""
        return self.batch(step)

    def largest_batch(self) -> Any:
        """A batch that needs as much memory as any will, for the dry run; None where all are alike."""
        return self.part(self.steps_done, self.share)

    def size(self, batch: Any) -> int:
        """How many samples a batch has, for the rate; 0: not known."""
        return len(batch) if isinstance(batch, Tensor | list) else 0

    def work(self, batch: Any) -> float:
        """How much arithmetic a batch is, in any unit, e.g. its tokens, for FLOP utilisation; all are alike by default."""
        return 1.0

    def names(self, batch: Any) -> list[str]:
        """Of the batch's samples, to say which ones broke a run."""
        return []

    def picture(self) -> Image.Image | None:
        """What the network makes of fixed inputs now, to look at; None where there is nothing to see. It must draw from streams of its own."""
        return None

    def facts(self) -> dict[str, Any]:
        """What a checkpoint must agree on with the run that it continues, e.g. the data's version."""
        return {}

    @property
    def network(self) -> nn.Module:
        """What is trained, averaged and sharded."""
        return self.get_submodule("model")

    @property
    def finished(self) -> bool:
        """Whether there is no further step: all are done, or the method has ended the run."""
        return self.steps_done >= self.total_steps or bool(self.ended)

    def observe(self, values: Mapping[str, Number], count: Number = 1.0) -> None:
        """Values for the curves, by name; each counts as the mean over ``count`` observations."""
        for name, value in values.items():
            self.tally.add(name, value * count, count)

    def scheduled(self, network: nn.Module, config: OptimizerConfig, hidden: Callable[[str], bool] = lambda name: True, steps: int = 0) -> dict[str, Any]:
        """An optimiser with the warm-up and decay of ``config`` over all steps, or over its own ``steps``, for `configure_optimizers`."""
        return self.with_schedule(build_optimizer(network, config, hidden), config, steps)

    def with_schedule(self, optimizer: torch.optim.Optimizer, config: OptimizerConfig, steps: int = 0) -> dict[str, Any]:
        """The same for an optimiser that the method has built; its gradients are clipped and watched as ``config`` says."""
        self.guards.append(Guard(config, min(self.engine.bad_steps, self.total_steps)))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, steps or self.total_steps, config))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def setup(self, stage: str) -> None:
        self.share = Share(self.trainer.global_rank, self.trainer.world_size, 0, self.engine.accumulate)

    def configure_model(self) -> None:
        """Shard the network where the engine says so, and keep its average beside it."""
        if self.prepared:
            return
        self.prepared = True
        if self.engine.strategy == "fsdp" and self.shards:
            self.plain = shard(self.network, self.parts(), self.device_mesh, self.engine.precision)  # type: ignore[arg-type]
        self.average = Average(self.network, self.ema) if self.ema else None

    def replace_network(self, network: nn.Module) -> None:
        """Put the whole network in the place of the sharded one."""
        self.add_module("model", network)

    def parts(self) -> list[tuple[nn.Module, list[str]]]:
        """The network's parts that are sharded each for itself, and then the network; with their methods beside `forward` that use weights."""
        return [(self.network, [])]

    def watch(self, optimizer: torch.optim.Optimizer, index: int = 0) -> None:
        """Clip the gradients of one optimiser, or drop them where they may not be used."""
        guard = self.guards[index]
        norm = guard(p for group in optimizer.param_groups for p in group["params"])
        self.observe({"train/grad_norm" if index == 0 else f"train/grad_norm_{index}": norm})

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None) -> None:
        self.watch(optimizer)

    def train_dataloader(self) -> Any:
        workers = self.engine.workers if self.prefetch else 0
        context = "fork" if workers else None
        loader = DataLoader(_Batches(self), batch_size=None, num_workers=workers, multiprocessing_context=context, worker_init_fn=ignore_in_worker)
        self.feed = Feed(loader, self.speed, self.eager)
        return self.feed

    def on_before_backward(self, loss: Tensor) -> None:
        self.feed.ahead()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Lightning's, which copies nested batches in Python, where there is a device to go to."""
        return batch if device.type == "cpu" else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Whatever draws from the global generator draws the same after a resume."""
        self.current = [*(self.current if batch_idx % self.share.micros else []), batch]
        torch.manual_seed(rng.key(0, "global", self.steps_done, batch_idx % self.share.micros, self.share.rank))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = {"steps_done": self.steps_done, "ended": self.ended, "tally": self.tally.state_dict(), "guards": [guard.state_dict() for guard in self.guards]}
        checkpoint["qi2"] = own

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = checkpoint["qi2"]
        self.steps_done, self.ended = own["steps_done"], own.get("ended", "")
        batches = self.steps_done * self.share.micros  # Lightning counts micro-batches, of which a step may now have more or fewer
        for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
            if isinstance(counts, dict):
                counts.update(dict.fromkeys(counts, batches))
        self.tally.load_state_dict(own["tally"])
        self._saved_guards = own["guards"]

    def restore_guards(self) -> None:
        """Once the optimisers stand: what the checkpoint knew of their gradients."""
        for guard, state in zip(self.guards, getattr(self, "_saved_guards", []), strict=False):
            guard.load_state_dict(state)


class _Batches(IterableDataset):  # type: ignore[type-arg]
    """The batches that are left, micro-batch after micro-batch; several workers take turns."""

    def __init__(self, module: StepModule) -> None:
        self.module = module

    def __iter__(self) -> Iterator[Any]:
        module, worker = self.module, get_worker_info()
        turn, turns = (worker.id, worker.num_workers) if worker else (0, 1)
        parts = module.share.split()
        last = module.steps_done if module.ended else module.total_steps
        for i in range(module.steps_done * len(parts) + turn, last * len(parts), turns):
            yield module.part(i // len(parts), parts[i % len(parts)])
