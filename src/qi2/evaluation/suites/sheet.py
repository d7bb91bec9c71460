"""A suite at a glance: the first prompts of every category, what they start from, and what each model drew of them."""

from collections.abc import Sequence
from textwrap import shorten

from PIL import Image

from qi2.evaluation.grids import Cell, grid
from qi2.evaluation.store import Store
from qi2.evaluation.suites.references.base import Reference
from qi2.evaluation.suites.row import Row
from qi2.evaluation.suites.run import Result

MOST_ROWS = 32
SIDE, LETTERS = 112, 110  # px of a picture on the sheet; of a prompt, so that it stays in its row


def sheet(results: Sequence[Result], store: Store) -> Image.Image:
    """One row per prompt with the first picture of each of ``results``, which are of one suite. Under the prompt stands its score, model by model."""
    suite = results[0].suite
    rows = _chosen(suite.rows)
    width = max(len(row.references) for row in rows)
    columns = [*(f"reference {number + 1}" if width > 1 else "reference" for number in range(width)), *(result.model for result in results)]
    items = [{item["id"]: item for item in result.items} for result in results]
    lines: list[tuple[str, list[Cell | None]]] = []
    for row in rows:
        pictures = [store.read(of[row.id]["pictures"][0]) for of in items]
        given = [Cell(_shown(reference, pictures[0].width)) for reference in row.references]
        scores = " | ".join(_score(of[row.id]["numbers"]) for of in items)
        lines.append((f"{shorten(row.prompt, LETTERS)} [{row.category}: {scores}]", [*given, *[None] * (width - len(given)), *map(Cell, pictures)]))
    return grid(columns, lines, SIDE)


def _chosen(rows: Sequence[Row]) -> list[Row]:
    """So many of each category that all of them fit, at least one."""
    each = max(1, MOST_ROWS // len({row.category for row in rows}))
    seen: dict[str, int] = {}
    chosen = []
    for row in rows:
        seen[row.category] = seen.get(row.category, 0) + 1
        if seen[row.category] <= each:
            chosen.append(row)
    return sorted(chosen, key=lambda row: row.category)[:MOST_ROWS]


def _shown(reference: Reference, size: int) -> Image.Image:
    return reference.open(size).convert("RGB")


def _score(numbers: Sequence[dict[str, float]]) -> str:
    """Mean over the prompt's pictures; a dash where the scorer gave no answer, or the formula has no score of a single picture."""
    known = [one["score"] for one in numbers if "score" in one]
    return f"{sum(known) / len(known):.2g}" if known else "-"
