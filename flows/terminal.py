"""What ``make run`` shows: one line per stage with percent, rate and time left; at the end a table, paths and addresses."""

import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import settings

QUIET_S = 15.0
HEADLINES = (
    "vae/psnr_world",
    "vae/ceiling",
    "t2i/accuracy/pretrain",
    "t2i/accuracy/continual",
    "t2i/accuracy/sft",
    "t2i/accuracy/rlhf",
    "t2i/accuracy/distill",
    "edit/done/sft",
    "edit/done/distill",
)


@dataclass
class Running:
    """A stage that runs: its head of a line, when it started, what it waits for, and its last progress."""

    head: str
    started: float
    step: str = "starting"
    last: dict[str, Any] = field(default_factory=dict)

    def status(self) -> str:
        """Percent, rate and time left, or what it waits for."""
        if not self.last:
            return f"{self.head} {self.step} ..."
        done, total, eta = self.last["done"], self.last["total"], self.last.get("eta_s")
        left = "?" if eta is None else clock(eta)
        return f"{self.head} {self.last['label']} {100 * done / total:3.0f}% {done}/{total} {self.last['rate']:.1f}/s, left {left}"


class Screen:
    """Prints a run's progress: rewrites one line on a terminal, and prints a line now and then elsewhere."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.started = time.monotonic()
        self.running: dict[str, Running] = {}
        self.step = ""
        self.printed = 0.0

    def event(self, event: dict[str, Any]) -> None:
        """Take in one line of the progress file."""
        kind = event.get("event")
        if kind == "stage":
            self._stage(event)
        elif kind == "step" and event.get("job") in self.running:
            self.running[event["job"]].step = event["text"]
        elif kind == "step":
            self.step = event["text"]
        elif kind == "failed":
            self._line("failed")
        elif kind == "unchanged":
            self._line("unchanged: every stage is up to date, nothing had to be done")
        elif kind is None and event["job"] in self.running:
            self.running[event["job"]].last = event

    def _stage(self, event: dict[str, Any]) -> None:
        self.step = ""
        head = f"[{event['index']:2}/{event['of']}] {event['name']:10}"
        if event["state"] == "reused":
            self._line(f"{head} unchanged")
        elif event["state"] == "started":
            self.running[event["name"]] = Running(head, time.monotonic())
            if not self.live:
                self._line(f"{head} started")
        else:
            self._line(f"{head} done in {clock(time.monotonic() - self.running.pop(event['name']).started)}")

    def tick(self, state: str) -> None:
        """Show where the run stands."""
        text = self._status(state)
        if self.live:
            sys.stdout.write(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}")
            sys.stdout.flush()
        elif time.monotonic() - self.printed > QUIET_S:
            self._line(text)

    def _status(self, state: str) -> str:
        parts = [stage.status() for stage in self.running.values()] or [f"{self.step or state.lower()} ..."]
        return f"{' | '.join(parts)}, total {clock(time.monotonic() - self.started)}"

    def _line(self, text: str) -> None:
        start = "\r\033[K" if self.live else ""
        print(f"{start}{text}", flush=True)
        self.printed = time.monotonic()

    def close(self) -> None:
        """Clear the live line."""
        if self.live:
            sys.stdout.write("\r\033[K")


def clock(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def summary(deployment: str, scale: str, run_id: str, state: Mapping[str, Any], seconds: float) -> None:
    """The last lines of a run: what became of it, and for the whole line figures, time, promotion and the report."""
    runs = settings.ROOT / settings.runs_folder(scale)
    if state["type"] != "COMPLETED":
        print(f"\n{deployment} ended {state['name']}: {state.get('message') or ''}")
        print(f"Logs: {settings.prefect_url()}/runs/flow-run/{run_id} and {_relative(runs / 'logs')}/")
        return
    print(f"\n{deployment}, scale {scale}: completed in {clock(seconds)}")
    if deployment.startswith("full-training/"):
        _figures(runs)
        _time(runs)
        _promotion(runs)
        report = runs / "report" / "index.html"
        print(f"\nreport   {_relative(report)}\nfigures  {_relative(report.with_name('summary.json'))}")
    print(f"Prefect  {settings.prefect_url()}/runs/flow-run/{run_id}\nMLflow   {settings.mlflow_url()}")


def _figures(runs: Path) -> None:
    figures = _read(runs / "report" / "summary.json").get("figures", {})
    names = [name for name in HEADLINES if name in figures] + [name for name in figures if name.startswith("reward/")]
    if names:
        print(f"\n{'figure':34} {'value':>8}   95% interval        n")
    for name in names:
        figure = figures[name]
        print(f"{name:34} {figure['value']:8.3f}   [{figure['low']:.3f}, {figure['high']:.3f}]  {figure['n']:6}")


def _time(runs: Path) -> None:
    timing = _read(runs / "timing.json")
    if not timing:
        return
    print(f"\n{'stage':12} {'compute':>9} {'evaluate':>9} {'imports':>9} {'orchestr.':>9}   seconds")
    for name, part in timing["stages"].items():
        print(f"{name:12} {part['compute']:9.1f} {part['evaluate']:9.1f} {part['import']:9.1f} {part['orchestration']:9.1f}")
    total, useful = clock(timing["total_s"]), clock(timing["compute_s"])
    print(f"flow {timing['flow_s']:.1f} s; the whole line took {total}, of it useful compute {useful},", end=" ")
    print(f"overhead {100 * timing['overhead_share']:.1f}%, peak memory {timing['peak_gib']:.2f} GiB")


def _promotion(runs: Path) -> None:
    decision = _read(runs / "promotion.json")
    if decision:
        print(f"\n{decision['model']} version {decision['version']}: {decision['outcome']} ({'; '.join(decision['reasons'])})")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _relative(path: Path) -> str:
    return str(path.relative_to(settings.ROOT))
