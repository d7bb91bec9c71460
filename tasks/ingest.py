"""Stage `ingest`: the world and the photographs, or a user's folder, as shards with a sidecar."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.data.ingest import ingest

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "raw"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """One call of the library."""
    ingest(recipe, out, reporter)
