"""Stage `sft`: supervised fine-tuning, report stage 6."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.mmdit.train import PhaseInputs, train_phase

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "sft"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library."""
    inputs = PhaseInputs(runs / "encoded", runs / "continual", runs / ".checkpoints" / OUT, runs / "vae", runs / "accepted" / "encoded")
    train_phase(recipe, "sft", inputs, out, reporter)
