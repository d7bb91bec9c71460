"""Stage `vae`: the f16c64 residual VAE."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.vae.train import train_vae

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "vae"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library."""
    train_vae(recipe, runs / "raw", runs / "curated", runs / "standins", out, reporter, runs / ".checkpoints" / OUT)
