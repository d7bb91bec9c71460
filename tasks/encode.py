"""Stage `encode`: latents and condition features of all curated samples, computed once for the stages that follow."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.training.encode import encode

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "encoded"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library."""
    encode(recipe, runs / "datasets", runs / "standins" / "vlm", runs / "vae", out, reporter)
