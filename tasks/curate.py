"""Stage `curate`: which rows each of the six training stages keeps, and why the others were rejected."""

from pathlib import Path

from qi2.data.curate import curate
from qi2.core.reporter import Reporter
from qi2.recipe import Recipe

OUT = "curated"


def run(recipe: Recipe, runs: Path, out: Path, reporter: Reporter) -> None:
    curate(recipe, runs / "raw", runs / "standins", out, reporter)
