"""summary.json: every figure of a run under one name, with its interval and the number of cases behind it."""

import os
import subprocess
from pathlib import Path
from typing import Any

from qi2.evaluation.bootstrap import Bootstrap, Figure, exact, proportion
from qi2.evaluation.reward_figures import Judged, reward_figures
from qi2.evaluation.run_folder import RunFolder
from qi2.rewards.config import JUDGED

TIMING = {"time/total_s": "total_s", "time/overhead_share": "overhead_share", "memory/peak_gib": "peak_gib"}


def summarise(scale: str, seed: int, run: RunFolder) -> dict[str, Any]:
    """``{"figures": {NAME: {"value", "low", "high", "n"}}, "scale", "seed", "revision"}``; only what was measured appears."""
    figures = all_figures(run)
    return {
        "figures": {name: figures[name].to_json() for name in sorted(figures)},
        "scale": scale,
        "seed": seed,
        "revision": revision(),
    }


def all_figures(run: RunFolder) -> dict[str, Figure]:
    """Evaluation's figures, the reward models' and the run's timing."""
    return {**run.figures, **rewards_of(run), **_timing_figures(run)}


def rewards_of(run: RunFolder) -> dict[str, Figure]:
    """``reward/NAME/FIGURE`` with intervals over prompts of the held-out pairs; ``.../accuracy_decoded``, on the same through the VAE, with Wilson's."""
    figures, metrics = {}, run.metrics("rewards")
    for key, value in metrics.items():
        prefix, _, last = key.rpartition("/")
        if prefix.startswith("reward/") and last in ("accuracy", "accuracy_decoded"):
            pairs = int(metrics.get(f"{prefix}/n", 0))
            figures[key] = proportion(value, pairs) if pairs else exact(value, 0)
    for path in sorted((run.path / "rewards").glob(f"*/{JUDGED}")):
        figures |= {f"reward/{path.parent.name}/{key}": figure for key, figure in reward_figures(Judged.read(path), Bootstrap(0)).items()}
    return figures


def enhancer_of(run: RunFolder) -> dict[str, Figure]:
    """What the evaluation says of the prompt enhancer: ``enhancer/TASK/FIGURE``."""
    return {key: figure for key, figure in run.figures.items() if key.startswith("enhancer/") and "accuracy_by" not in key}


def _timing_figures(run: RunFolder) -> dict[str, Figure]:
    return {name: exact(run.timing[key]) for name, key in TIMING.items() if key in run.timing}


def revision(folder: Path | None = None) -> str:
    """The git revision, with ``+`` when tracked files differ from it; QI2_REVISION overrides; ``unknown`` outside a repository."""
    if given := os.environ.get("QI2_REVISION"):
        return given
    head = _git(["rev-parse", "--short=12", "HEAD"], folder)
    if head is None:
        return "unknown"
    return head + ("+" if _git(["status", "--porcelain", "--untracked-files=no"], folder) else "")


def _git(arguments: list[str], folder: Path | None) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
