"""Stage `distill`: the aligned model distilled to four steps."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.distill.train import DistillInputs, train_distill

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "distill"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library."""
    inputs = DistillInputs(runs / "encoded", runs / "rlhf", runs / ".checkpoints" / OUT)
    train_distill(recipe, inputs, out, reporter)
