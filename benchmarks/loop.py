"""What the engine costs beside a bare loop of the same model, batches and optimiser: ``python -m benchmarks.loop [--scale tiny]``.

Needs the encoded samples of that scale (``make run``), which it leaves as they are. Bare and engine take turns within one run. Last line
JSON: ``step_overhead`` (seconds per step of the engine by those of the bare loop beside it, less one: Lightning, curves, guard, progress,
average; the median over turns), ``overheads`` (of each turn), ``cpu_overhead`` (the same of CPU seconds, which other work disturbs less), ``data_wait`` and
``checkpoint_share`` (of the engine's time, with its default interval), ``sampling`` left out.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from qi2.config import load
from qi2.core.reporter import FileReporter
from qi2.mmdit.module import MMDiTModule
from qi2.mmdit.train import start_model
from qi2.recipe import Recipe
from qi2.training.encoded import EncodedSet
from qi2.training.fit import fit
from qi2.training.share import WHOLE
from tasks import settings


class Timed(MMDiTModule):
    """The SFT phase, which remembers when its steps began and ended."""

    seconds = cpu_seconds = 0.0

    def on_train_start(self) -> None:
        self.seconds, self.cpu_seconds = time.perf_counter(), time.process_time()

    def on_train_end(self) -> None:
        self.seconds, self.cpu_seconds = time.perf_counter() - self.seconds, time.process_time() - self.cpu_seconds


def build(recipe: Recipe, data: EncodedSet, steps: int) -> Timed:
    """The same module from the same start, every time."""
    phase = replace(recipe.sft, stages=[replace(recipe.sft.stages[0], steps=steps)])
    architecture = replace(recipe.mmdit, context_width=data.prompts[0].text.shape[1])
    return Timed(start_model(architecture, None, 0), data, phase, "sft", 0)


def bare(module: Timed) -> tuple[float, float]:
    """Seconds and CPU seconds per step of the shortest loop that trains the same."""
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    start, cpu = time.perf_counter(), time.process_time()
    for step in range(module.total_steps):
        loss = module.training_step(module.part(step, WHOLE), step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, module.phase.optimizer.clip)
        optimizer.step()
        schedule.step()
        module.steps_done += 1
    return (time.perf_counter() - start) / module.total_steps, (time.process_time() - cpu) / module.total_steps


class Shares(FileReporter):
    """Collects the engine's own figures, weighted by steps."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.found: dict[str, list[float]] = {}

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        super().metrics(values, step)
        for name, value in values.items():
            self.found.setdefault(name, []).append(value)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop", description=__doc__)
    parser.add_argument("--scale", default="tiny", choices=settings.SCALES)
    parser.add_argument("--runs", type=Path, help="results of that scale; default: runs/SCALE")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    recipe = load(Recipe, [settings.ROOT / "conf" / "scale" / f"{args.scale}.yaml"])
    torch.set_num_threads(recipe.threads or torch.get_num_threads())
    data = EncodedSet((args.runs or settings.ROOT / settings.runs_folder(args.scale)) / "encoded")
    plain, whole, busy, waits, saves = [], [], [], [], []
    for turn in range(args.repeats + 1):
        one, cpu = bare(build(recipe, data, args.steps))
        with tempfile.TemporaryDirectory() as folder:
            module, shares = build(recipe, data, args.steps), Shares(Path(folder))
            engine = replace(recipe.engine, dry_run=False, checkpoint_seconds=0.0)
            fit(module, "loop", shares, engine=engine, checkpoints=Path(folder) / "checkpoints", ema=recipe.sft.ema)
        if turn:  # the first turn warms up
            plain.append(one)
            waits.append(sum(shares.found["speed/data_wait"]) / len(shares.found["speed/data_wait"]))
            saves.append(sum(shares.found["speed/checkpoint_share"]) / len(shares.found["speed/checkpoint_share"]))
            whole.append(module.seconds / args.steps * (1 - saves[-1]))
            busy.append((module.cpu_seconds - saves[-1] * module.seconds) / args.steps / cpu - 1)
    overheads = [ours / theirs - 1 for ours, theirs in zip(whole, plain, strict=True)]
    figures = {
        "scale": args.scale,
        "bare_step_ms": 1e3 * median(plain),
        "step_overhead": median(overheads),
        "overheads": [round(value, 3) for value in sorted(overheads)],
        "cpu_overhead": median(busy),
        "data_wait": median(waits),
        "checkpoint_share": median(saves),
    }
    print(json.dumps({name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}))


if __name__ == "__main__":
    main()
