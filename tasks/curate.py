"""Stage `curate`: which rows each of the six training stages keeps, and why the others were rejected."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.data.curate import curate
from tasks.executors import executor

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "curated"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library; the shards' scores stay for runs with other thresholds."""
    curate(recipe, runs / "raw", runs / "standins", out, reporter, runs / ".scores", executor(recipe.curate))
