"""Stage `distill`: the aligned model, or the base model, distilled to a few steps."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.distill.train import DistillInputs, train_distill

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "distill"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library."""
    recipe.distill.check()
    inputs = DistillInputs(runs / "encoded", runs / recipe.distill.teacher, runs / ".checkpoints" / OUT)
    train_distill(recipe, inputs, out, reporter)
