"""The one training loop: Lightning's, which goes on from the newest valid checkpoint as if nothing had happened."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from qi2.core.errors import Interrupted
from qi2.core.publish import write_file
from qi2.core.reporter import Reporter
from qi2.training import checkpoints as saved
from qi2.training.config import EngineConfig
from qi2.training.guard import NotFinite
from qi2.training.run import Run
from qi2.training.scale import precision, processes, strategy
from qi2.training.step_module import StepModule

BROKEN = "not-finite.json"


def fit(module: StepModule, label: str, reporter: Reporter, *, engine: EngineConfig | None = None, checkpoints: Path | None = None, ema: float = 0.0) -> None:
    """Train ``module`` for its steps; continue from the newest valid checkpoint in ``checkpoints`` when there is one.

    With ``ema`` in (0, 1) the network ends with the exponential moving average of its weights, of that decay per step. Where several
    processes train, all but the first end here: it has the whole network.

    A method may end the run before its last step; `StepModule.ended` then says why.

    Raises QI2Error where the checkpoint is of another run, a batch does not fit or divide, or gradients are not finite again and again;
    Interrupted after SIGTERM, with the step finished and saved.
    """
    engine = engine or EngineConfig()
    local = processes(engine, module.shards)
    module.engine = replace(engine, precision=precision(engine), accumulate=engine.accumulate if module.shards else 1)
    module.ema = ema
    module.train()
    if module.total_steps > 0:
        _train(module, label, reporter, checkpoints, local)
    module.eval()


def _train(module: StepModule, label: str, reporter: Reporter, folder: Path | None, local: int) -> None:
    facts = {"steps": module.total_steps, "ema": module.ema, "strategy": module.engine.strategy, "precision": module.engine.precision, **module.facts()}
    last = _start(folder, facts, module.engine.on_change)
    if last is not None:
        reporter.restore(saved.reported(last))
    run = Run(label, reporter, folder, facts)
    trainer = _trainer(module, run, local)
    try:
        trainer.fit(module, ckpt_path=last / saved.STATE if last else None, weights_only=True if last else None)
    except NotFinite as error:
        raise NotFinite(f"{label}, step {module.steps_done + 1}: {error}{_bundle(module, folder, facts)}") from error
    if trainer.world_size > 1 and not trainer.is_global_zero:
        torch.distributed.destroy_process_group()
        sys.exit(0)  # also after SIGTERM: a launcher would kill the first process while it still says so
    if not module.finished or run.interrupt.asked:
        kept = f"saved in {folder}; the same command goes on from there" if folder else "nothing was saved, because no folder for checkpoints was given"
        raise Interrupted(f"{label}: told to stop after step {module.steps_done} of {module.total_steps}; {kept}")


def _start(folder: Path | None, facts: dict[str, Any], on_change: str) -> Path | None:
    """The checkpoint to go on from."""
    last = saved.newest(folder) if folder is not None else None
    if folder is not None and last is not None and not saved.agree(last, facts, on_change):
        saved.discard(folder)
        return None
    return last


def _trainer(module: StepModule, run: Run, local: int) -> pl.Trainer:
    engine = module.engine
    sharded = engine.strategy == "fsdp" and module.shards
    alone = not module.shards or local * engine.nodes == 1
    return pl.Trainer(
        max_epochs=1,
        devices=local,
        num_nodes=engine.nodes if module.shards else 1,
        strategy=strategy(engine, local) if module.shards else "auto",
        precision="bf16-mixed" if engine.precision == "bf16" and not sharded else "32-true",
        accumulate_grad_batches=engine.accumulate if module.automatic_optimization else 1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[run],
        plugins=[LightningEnvironment()] if alone else None,  # whatever cluster this process was started on
    )


def _bundle(module: StepModule, folder: Path | None, facts: dict[str, Any]) -> str:
    """Leave what is needed to look into it; says where."""
    names = [name for batch in module.current for name in module.names(batch)]
    if folder is None:
        return f". The last batch: {', '.join(names[:8])}" if names else ""
    broken = folder / (f"not-finite-{module.share.rank}.json" if module.share.ranks > 1 else BROKEN)
    folder.mkdir(parents=True, exist_ok=True)
    found = {"step": module.steps_done, "samples": names, "facts": facts, "guards": [guard.state_dict() for guard in module.guards]}
    write_file(broken, json.dumps(found, indent=1).encode())
    return f". {broken} names the samples of the last batch"
