"""Progress of long work: percent, rate and time left, for people (stderr) and for the orchestrator (a JSON-lines file)."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import SupportsFloat

INTERVAL_S = 2.0


class Progress:
    """Counts work; prints at most every two seconds and appends to the file named by ``QI2_PROGRESS_FILE`` when set.

    Where several processes share that file, ``QI2_PROGRESS_JOB`` says whose lines are whose; ``quiet``: this one says nothing;
    ``done``: what an earlier process did, which says nothing of this one's rate.
    """

    def __init__(self, label: str, total: int, unit: str = "it", quiet: bool = False, done: int = 0) -> None:
        self.label, self.total, self.unit, self.quiet = label, max(int(total), 1), unit, quiet
        self.done = self._before = done
        self._start = time.monotonic()
        self._last = 0.0
        self._file, self._job = os.environ.get("QI2_PROGRESS_FILE"), os.environ.get("QI2_PROGRESS_JOB", "")

    def __enter__(self) -> "Progress":
        self._emit({})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._emit({})

    def update(self, n: int = 1, **metrics: SupportsFloat) -> None:
        """Count ``n`` more units done; ``metrics`` are shown beside the rate."""
        self.done += n
        if time.monotonic() - self._last >= INTERVAL_S:
            self._emit(metrics)

    def _emit(self, observed: Mapping[str, SupportsFloat]) -> None:
        if self.quiet:
            return
        numbers = {name: float(value) for name, value in observed.items()}  # only now: a number may have to come from a GPU
        metrics = {name: value for name, value in numbers.items() if math.isfinite(value)}
        self._last = time.monotonic()
        own = self.done - self._before
        rate = own / max(self._last - self._start, 1e-6)
        left = (self.total - self.done) / rate if own else float("nan")
        shown = " ".join(f"{name}={value:.4g}" for name, value in metrics.items())
        eta = f"{left:.0f}s" if own else "?"
        line = f"{self.label} {100 * self.done / self.total:3.0f}% {self.done}/{self.total} {self.unit} {rate:.1f} {self.unit}/s eta {eta} {shown}"
        print(line.rstrip(), file=sys.stderr, flush=True)
        if self._file:
            record = {"job": self._job, "label": self.label, "done": self.done, "total": self.total, "rate": rate, "time": time.time()}
            record |= {"eta_s": left if own else None, **metrics}
            with open(self._file, "a") as handle:
                handle.write(json.dumps(record) + "\n")
