"""Where a run's time went: useful compute against orchestration, imports and evaluation."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.stage import StageRecord

USEFUL = "compute"


def summarise(runs: Path, stages: Sequence[str], records: Sequence[StageRecord], started: float) -> dict[str, Any]:
    """total_s, compute_s, overhead_share, peak_gib and seconds per stage and kind.

    A reused stage counts with the seconds of the run that made its result, so that the total always is that of the whole line;
    the flow's own seconds (start, checks, promotion) are those of this run, up to the report.
    """
    spans = _last(runs / "records.jsonl", "stage")
    clocks = _last(runs / "timings.jsonl", "stage")
    own = time.time() - started - sum(record.span_s for record in records)
    parts: dict[str, dict[str, float]] = {}
    for stage in stages:
        if stage in clocks:
            clock = clocks[stage]
            known = {kind: clock[f"{kind}_s"] for kind in ("import", USEFUL, "evaluate")}
            newest = spans.get(stage, {})
            span = newest["span_s"] if newest.get("finished", 0) >= clock["finished"] else clock["wall_s"]
            parts[stage] = {**known, "orchestration": max(0.0, span - sum(known.values()))}
    total = own + sum(sum(part.values()) for part in parts.values())
    useful = sum(part[USEFUL] for part in parts.values())
    peak = max((span["peak_mib"] for span in spans.values()), default=0.0)
    peak = max(peak, *(clock["peak_rss_mib"] for clock in clocks.values())) if clocks else peak
    return {
        "total_s": round(total, 1),
        "compute_s": round(useful, 1),
        "overhead_share": round(1 - useful / total, 4) if total else 0.0,
        "peak_gib": round(peak / 1024, 3),
        "flow_s": round(own, 1),
        "stages": {stage: {kind: round(value, 2) for kind, value in part.items()} for stage, part in parts.items()},
    }


def _last(path: Path, key: str) -> dict[str, dict[str, Any]]:
    """{stage: its last line} of a JSON-lines file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line[key]: line for line in map(json.loads, lines)}
