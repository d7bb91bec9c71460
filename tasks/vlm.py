"""Stage `vlm`: the tiny Qwen3-VL and the filters' models, trained only where no pretrained ones are given."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.standins.train import train_standins

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "standins"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library."""
    train_standins(recipe, runs / "raw", out, reporter, runs / ".checkpoints" / OUT)
