"""Stage `datasets`: the curated data sets of the six training stages as tar shards with sidecars."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.data.datasets import write_datasets

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "datasets"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library."""
    write_datasets(recipe, runs / "raw", runs / "curated", out, reporter)
