"""Report section about the data: what curation kept, what it rejected and why (report, Figure 6)."""

from collections.abc import Callable
from html import escape
from typing import Any

from qi2.evaluation.report_html import missing, picture, table
from qi2.evaluation.run_folder import RunFolder, read_json

EXAMPLES = 4  # rejected pictures shown per reason


def curation(run: RunFolder) -> str:
    """The funnel of every stage and example pictures of every reason."""
    funnel: dict[str, Any] = read_json(run.path / "curated" / "funnel.json", {})
    if not funnel:
        return missing("What was kept and what was rejected", "curate")
    return _intro(funnel) + _funnel(funnel) + _rejected(run)


def _intro(funnel: dict[str, Any]) -> str:
    return (
        "<p>Every picture that went in is either kept or rejected, with the first reason that applied; "
        f"{len(funnel)} training stages, each stricter than the one before.</p>"
    )


def _funnel(funnel: dict[str, Any]) -> str:
    reasons = list(dict.fromkeys(reason for stage in funnel.values() for reason in stage["rejected"]))
    rows = []
    for name, stage in funnel.items():
        counts = [str(stage["rejected"].get(reason) or "·") for reason in reasons]
        rows.append([escape(name), str(stage["in"]), f"<b>{stage['kept']}</b>", f"{100 * stage['kept'] / max(stage['in'], 1):.0f}%", *counts])
    head = ["stage", "in", "kept", "share", *map(_words, reasons)]
    return "<h3>The funnel: rejected by reason</h3>" + table(head, rows, right=range(1, len(head)))


def _rejected(run: RunFolder) -> str:
    """Curation's cards (``rejected/REASON_K.png``: picture, reason, scores, caption), one row per reason."""
    groups: dict[str, list[str]] = {}
    for path in sorted((run.path / "curated" / "rejected").glob("*.png")):
        reason = path.stem.rpartition("_")[0]
        groups.setdefault(reason, []).append(picture(path, alt=reason))
    rows = [[_words(reason), f'<div class="row natural">{"".join(shown[:EXAMPLES])}</div>'] for reason, shown in groups.items()]
    return "<h3>Examples of what was rejected</h3>" + table(["", ""], rows, "pictures") if rows else ""


def _words(reason: str) -> str:
    return escape(reason.replace("_", " "))


SECTIONS: list[tuple[str, str, Callable[[RunFolder], str]]] = [("curation", "What curation rejected", curation)]
