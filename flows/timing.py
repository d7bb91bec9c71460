"""Where a run's time went: useful compute against orchestration, imports and evaluation."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from flows.stage import StageRecord

USEFUL = "compute"


def summarise(runs: Path, stages: Sequence[str], records: Sequence[StageRecord], started: float) -> dict[str, Any]:
    """total_s, compute_s, overhead_share, peak_gib and seconds per stage and kind.

    Stages may run side by side, so the total and the useful time are lengths of time in which anything ran, not sums over stages. A reused
    stage counts with the time of the run that made its result, so that the total always is that of the whole line; the flow's own
    seconds (start, checks, promotion) are those of this run, up to the report. A record's memory is that of all that the flow ran then.
    """
    spans, clocks = _last(runs / "records.jsonl", "stage"), _last(runs / "timings.jsonl", "stage")
    own = time.time() - started - covered([Span(record.finished - record.span_s, record.finished) for record in records])
    known = {stage: _stage_times(clocks[stage], spans.get(stage, {})) for stage in stages if stage in clocks}
    total = own + covered([times.whole for times in known.values()])
    useful = covered([times.compute for times in known.values()])
    return {
        "total_s": round(total, 1),
        "compute_s": round(useful, 1),
        "overhead_share": round(1 - useful / total, 4) if total else 0.0,
        "peak_gib": round(max((times.peak_mib for times in known.values()), default=0.0) / 1024, 3),
        "flow_s": round(own, 1),
        "stages": {stage: {kind: round(value, 2) for kind, value in times.parts.items()} for stage, times in known.items()},
    }


class Span(NamedTuple):
    """From when to when something ran, in unix seconds."""

    start: float
    end: float


@dataclass(frozen=True)
class StageTimes:
    """When a stage ran and when it did its useful work, its seconds by kind, and the peak of memory meanwhile."""

    whole: Span
    compute: Span
    parts: dict[str, float]
    peak_mib: float


def _stage_times(clock: dict[str, float], record: dict[str, float]) -> StageTimes:
    """From the clock of the stage's own process and, where it is of the same execution, the record of the flow around it."""
    parts = {kind: clock[f"{kind}_s"] for kind in ("import", USEFUL, "evaluate")}
    whole, peak = Span(clock["started"], clock["finished"]), clock["peak_rss_mib"]
    if record.get("finished", 0) >= clock["finished"]:
        whole, peak = Span(record["finished"] - record["span_s"], record["finished"]), max(peak, record["peak_mib"])
    began = clock["started"] + parts["import"]
    parts["orchestration"] = max(0.0, whole.end - whole.start - sum(parts.values()))
    return StageTimes(whole, Span(began, began + parts[USEFUL]), parts, peak)


def covered(spans: Sequence[Span]) -> float:
    """Seconds in which at least one of the spans ran."""
    total, until = 0.0, float("-inf")
    for span in sorted(spans):
        total += max(0.0, span.end - max(span.start, until))
        until = max(until, span.end)
    return total


def _last(path: Path, key: str) -> dict[str, dict[str, Any]]:
    """{stage: its last line} of a JSON-lines file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line[key]: line for line in map(json.loads, lines)}
