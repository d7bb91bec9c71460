"""What the reward models of scale tiny are worth: ``python -m benchmarks.tiny_rewards [KEY=VALUE ...] --seed 0 [--rewards NAME ...]``.

Trains rewards anew with the inputs of a finished ``make run`` (which it leaves as it is), with one thread, and prints one line of JSON for each:
its figures on held-out pairs with 95 % bootstrap intervals over prompts, and CPU seconds. A seed has its own labels, weights and held-out pairs,
so that settings can be chosen with some seeds and judged with others. ``docs/rewards.md`` keeps the results.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from qi2.rewards.config import DIMENSIONS

EXTRA = ("calibration_error_raw", "calibration_error_scale", "accuracy_decoded", "temperature", "sharpness", "mistakes", "ties_expected")


def measure(recipe: Any, runs: Path, names: list[str], out: Path) -> None:
    """Print a line per reward."""
    from qi2.core.reporter import NullReporter
    from qi2.evaluation.bootstrap import Bootstrap
    from qi2.evaluation.reward_figures import Judged, reward_figures
    from qi2.models.condition import ConditionEncoder
    from qi2.models.vae import VAE
    from qi2.rewards.config import JUDGED
    from qi2.rewards.train import RewardInputs, RewardStage, train_reward

    inputs = RewardInputs(runs / "raw", runs / "curated", runs / "standins" / "vlm", runs / "vae")
    stage = RewardStage(recipe.rewards, recipe.seed, inputs, recipe.engine, ConditionEncoder.load(inputs.vlm), VAE.load(runs / "vae"), [])
    for name in names:
        start = time.process_time()
        metrics, _ = train_reward(stage, name, out / name, NullReporter())
        seconds = time.process_time() - start
        figures = reward_figures(Judged.read(out / name / JUDGED), Bootstrap(0))
        found = {key: [round(value, 4) for value in (figure.value, figure.low, figure.high)] for key, figure in figures.items()}
        extra = {key: round(metrics[f"reward/{name}/{key}"], 4) for key in EXTRA if f"reward/{name}/{key}" in metrics}
        print(json.dumps({"reward": name, "seed": recipe.seed, "cpu_s": round(seconds, 1), "prompts": figures["accuracy"].n, **found, **extra}), flush=True)


def main() -> None:
    """Read the command line."""
    import torch

    from qi2.config import load
    from qi2.recipe import Recipe, scale_layers

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/tiny"), help="a finished run of scale tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rewards", nargs="+", default=list(DIMENSIONS), choices=DIMENSIONS)
    parser.add_argument("--out", type=Path, help="folder that keeps the models")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="differences from the scale")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load(Recipe, scale_layers(Path("conf"), "tiny"), [f"seed={args.seed}", *args.changes])
    with tempfile.TemporaryDirectory() as folder:
        measure(recipe, args.runs, args.rewards, args.out or Path(folder))


if __name__ == "__main__":
    main()
