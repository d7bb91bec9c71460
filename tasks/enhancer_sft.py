"""Stage `enhancer_sft`: the prompt enhancer's language model, trained on degraded captions."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.enhancer.train import train_enhancer_sft

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "enhancer_sft"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library."""
    train_enhancer_sft(recipe, runs / "raw", runs / "encoded", out, reporter, runs / ".checkpoints" / OUT)
