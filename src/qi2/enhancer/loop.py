"""What accompanies TRL's trainers: curves, progress, checkpoints that are published whole, and the end when it is asked for.

TRL brings its own loop, the one exception to Lightning: it is the reference for GRPO on language models.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from qi2.core.errors import Interrupted
from qi2.core.progress import Progress
from qi2.core.publish import publish
from qi2.core.reporter import Reporter
from qi2.training import checkpoints
from qi2.training.interrupt import Interrupt

CURVES = {
    "loss": "train/loss", "learning_rate": "train/lr", "grad_norm": "train/gradient_norm", "reward": "enhancer/reward", "kl": "enhancer/kl",
    "entropy": "enhancer/entropy", "completions/mean_length": "enhancer/tokens", "frac_reward_zero_std": "enhancer/equal_groups",
    "anchor": "enhancer/anchor_loss",
    "mean_token_accuracy": "enhancer/token_accuracy",
}  # fmt: skip


class Bridge(TrainerCallback):
    """Between a trainer of TRL and the project's reporter and checkpoints. ``folder`` None: no checkpoints.

    ``updates``: steps that share a batch of rewrites. A run stops between batches alone: a resumed one would draw its rewrites anew.
    """

    def __init__(self, label: str, reporter: Reporter, folder: Path | None, facts: Mapping[str, Any], total: int, updates: int = 1) -> None:
        self.label, self.reporter, self.folder, self.facts, self.total = label, reporter, folder, facts, total
        self.updates, self.interrupt, self.latest = updates, Interrupt(), dict[str, float]()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.interrupt.install()
        self.progress = Progress(self.label, self.total, done=state.global_step).__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.update(1, **self.latest)
        if self.interrupt.asked and state.global_step % self.updates == 0:
            control.should_save, control.should_training_stop = self.folder is not None, True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        found = {CURVES[name]: float(value) for name, value in (logs or {}).items() if name in CURVES}
        found |= {
            f"enhancer/reward_{name.split('/')[1]}": float(v) for name, v in (logs or {}).items() if name.startswith("rewards/") and name.endswith("/mean")
        }
        if found:
            self.latest = {name: value for name, value in found.items() if name in ("train/loss", "enhancer/reward")}
            self.reporter.metrics({f"{self.label}/{name}": value for name, value in found.items()}, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """What the trainer has written becomes a checkpoint of the project's kind: whole or not there."""
        written = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        assert self.folder is not None
        with publish(self.folder / f"step-{state.global_step:08d}") as staging:
            shutil.copytree(written, staging, dirs_exist_ok=True)
            (staging / checkpoints.FACTS).write_text(json.dumps(self.facts, indent=1, sort_keys=True))
            for name, data in self.reporter.state().items():
                path = staging / checkpoints.REPORTER / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        shutil.rmtree(written)
        for old in checkpoints.steps(self.folder)[2:]:
            shutil.rmtree(old)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.__exit__(None, None, None)
        self.interrupt.uninstall()


def quiet() -> None:
    """No bars of the libraries' own: this project shows its progress itself."""
    from datasets import disable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bars()
    disable_progress_bar()


def train(trainer: Any, bridge: Bridge) -> None:
    """Run a trainer to its end, from the newest valid checkpoint of the same run where there is one.

    Raises Interrupted where the run was told to stop; what it had done is saved then.
    """
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(bridge)
    found = checkpoints.newest(bridge.folder) if bridge.folder is not None else None
    if found is not None and not checkpoints.agree(found, bridge.facts, "restart"):
        checkpoints.discard(found.parent)
        found = None
    if found is not None:
        bridge.reporter.restore(checkpoints.reported(found))
    if found is not None and found.name == f"step-{bridge.total:08d}":
        trainer._load_from_checkpoint(str(found))  # a trainer that has nothing left to do would take one step more
        return
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    if bridge.interrupt.asked:
        raise Interrupted(f"{bridge.label} after step {trainer.state.global_step} of {bridge.total}")
