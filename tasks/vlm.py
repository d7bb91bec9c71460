"""Stage `vlm`: the tiny Qwen3-VL and the filters' models, trained only where no pretrained ones are given."""

from pathlib import Path

from qi2.standins.train import train_standins
from qi2.core.reporter import Reporter
from qi2.recipe import Recipe

OUT = "standins"


def run(recipe: Recipe, runs: Path, out: Path, reporter: Reporter) -> None:
    train_standins(recipe, runs / "raw", out, reporter)
