"""Checkpoints: folders that are published as a whole, of which a run goes on from the newest that is valid.

``step-00000200/`` holds ``state.ckpt`` (Lightning's: weights, average, optimisers, schedules, loops, callbacks, and what `StepModule`
adds; a file, or DCP's shards under FSDP), ``facts.json`` (what the run must agree on), ``reporter/`` (the curves so far) and the manifest
of hashes, which is written last.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from qi2.config import flatten
from qi2.core.errors import QI2Error
from qi2.core.publish import newest_valid, publish
from qi2.core.reporter import Reporter

STATE, FACTS, REPORTER = "state.ckpt", "facts.json", "reporter"
log = logging.getLogger(__name__)


def steps(root: Path) -> list[Path]:
    """All checkpoints in a folder, the newest first; whether they are valid is not asked."""
    return sorted(root.glob("step-*"), reverse=True)


def newest(root: Path) -> Path | None:
    """The newest checkpoint that is whole; a damaged one is passed over."""
    return newest_valid(reversed(steps(root)))


def save(trainer: pl.Trainer, root: Path, step: int, facts: Mapping[str, Any], reporter: Reporter, keep: int) -> None:
    """Publish the checkpoint of a step and delete all but the ``keep`` newest up to it; every process must call this.

    Newer ones are damaged, or the run would have gone on from them.
    """
    target = root / f"step-{step:08d}"
    if not trainer.is_global_zero:
        trainer.strategy.barrier()
        trainer.save_checkpoint(target / STATE, weights_only=False)  # only shards are written, to where rank 0 says
        trainer.strategy.barrier()
        return
    with publish(target) as staging:
        (staging / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True))
        for name, data in reporter.state().items():
            path = staging / REPORTER / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        trainer.strategy.barrier()
        trainer.save_checkpoint(staging / STATE, weights_only=False)
        trainer.strategy.barrier()
    kept = [folder for folder in steps(root) if folder <= target][:keep]
    for old in {*steps(root)} - {*kept}:
        shutil.rmtree(old)


def reported(folder: Path) -> dict[str, bytes]:
    """What the reporter had said until a checkpoint."""
    root = folder / REPORTER
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def agree(folder: Path, facts: Mapping[str, Any], on_change: str) -> bool:
    """Whether a run with these facts may go on from a checkpoint; False: it shall begin anew.

    Raises QI2Error that lists what differs, where ``on_change`` is ``refuse``.
    """
    try:
        saved = json.loads((folder / FACTS).read_text())
    except FileNotFoundError:  # another process of this run has just discarded it
        return False
    saved, now = flatten(saved), flatten(json.loads(json.dumps(facts, sort_keys=True)))
    differences = [f"{name}: {saved.get(name)} then, {now.get(name)} now" for name in sorted({*saved, *now}) if saved.get(name) != now.get(name)]
    if not differences or on_change == "accept":
        return True
    if on_change == "restart":
        log.warning("%s is of a run with other data or parameters (%s): starting anew", folder, "; ".join(differences))
        return False
    raise QI2Error(
        f"{folder} is of a run with other data or parameters: {'; '.join(differences)}. Take these back to go on; or set engine.on_change=restart "
        f"to begin anew, engine.on_change=accept to go on all the same (the result is then of neither), or move {folder.parent} away"
    )


def discard(root: Path) -> None:
    """Delete all checkpoints: the run begins anew. Every process of a run may do it."""
    for folder in steps(root):
        shutil.rmtree(folder, ignore_errors=True)
