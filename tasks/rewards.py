"""Stage `rewards`: five reward models trained on preference pairs."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.rewards.train import train_rewards

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "rewards"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library."""
    checkpoints = runs / ".checkpoints" / OUT
    train_rewards(recipe, runs / "raw", runs / "curated", runs / "standins", out, reporter, checkpoints, runs / "vae")
