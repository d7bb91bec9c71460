"""Stage `evaluate`: every model on held-out prompts with exact checkers."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.evaluation.evaluate import evaluate
from qi2.evaluation.store import default_folder

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "evaluate"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library; pictures that were drawn before come from the store, which changes no bit of the result."""
    evaluate(recipe, runs, out, reporter, default_folder())
