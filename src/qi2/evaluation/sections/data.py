"""Report section about the data: what curation kept, what it rejected and why (report, Figure 6)."""

from collections.abc import Callable
from html import escape
from typing import Any

from qi2.evaluation.report_html import missing, picture, table
from qi2.evaluation.run_folder import RunFolder, read_json

STABLE, CHANGED = 0.1, 0.25  # usual bounds of the stability index
EXAMPLES = 4  # rejected pictures shown per reason


def curation(run: RunFolder) -> str:
    """The funnel of every stage and example pictures of every reason."""
    funnel: dict[str, Any] = read_json(run.path / "curated" / "funnel.json", {})
    if not funnel:
        return missing("What was kept and what was rejected", "curate")
    return _intro(funnel) + _funnel(funnel) + _drift(run) + _rejected(run)


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


def _drift(run: RunFolder) -> str:
    """Against the version before, where this folder has seen one (see ``qi2.data.drift``)."""
    known: dict[str, Any] = read_json(run.path / ".scores" / "drift.json", {})
    if not known.get("index"):
        return ""
    before, now = known["before"], known["now"]
    counts = [[escape(name), str(before["kept"].get(name, "·")), str(kept)] for name, kept in now["kept"].items()]
    index = [
        [_words(name), f"{value:.3f}", "stable" if value < STABLE else "moved" if value < CHANGED else "<b>changed</b>"]
        for name, value in known["index"].items()
    ]
    return (
        "<h3>Drift against the version before</h3><p>Population stability index of the scores that stage 1 keeps "
        f"(stable below {STABLE}, another population above {CHANGED}), and how many rows each stage keeps.</p>"
        + table(["score", "index", ""], index, right=range(1, 2))
        + table(["stage", "kept before", "kept now"], counts, right=range(1, 3))
    )


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
