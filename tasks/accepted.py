"""Stage `accepted`: what the data flywheel's review has accepted, versioned and encoded; empty and free where there is nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.training.accepted import keep

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "accepted"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library."""
    keep(recipe, runs / "standins" / "vlm", runs / "vae", out, reporter)
