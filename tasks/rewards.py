"""Stage `rewards`: five reward models trained on preference pairs."""

from pathlib import Path

from qi2.rewards.train import train_rewards
from qi2.core.reporter import Reporter
from qi2.recipe import Recipe

OUT = "rewards"


def run(recipe: Recipe, runs: Path, out: Path, reporter: Reporter) -> None:
    train_rewards(recipe, runs / "raw", runs / "curated", runs / "standins", out, reporter)
