"""Stage `pretrain`: the MMDiT from random weights, report stages 1 to 3."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.mmdit.train import PhaseInputs, train_phase

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "pretrain"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library."""
    inputs = PhaseInputs(runs / "encoded", None, runs / ".checkpoints" / OUT, runs / "vae")
    train_phase(recipe, "pretrain", inputs, out, reporter)
