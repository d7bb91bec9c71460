"""The Prefect task of a stage: `dvc repro --single-item` in a subprocess, with its progress, logs, metrics and memory in sight."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import psutil
from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.concurrency.sync import concurrency

from flows import memory, slots
from flows.dag import BUSY, Dag
from tasks import settings, tracking
from tasks.jsonl import Follower, append
from tasks.stage import EVENTS, FLOW_PID, STOPPING, checkpoints_folder, events_folder

TICK_S, FORWARD_S = 2.0, 4.0
BUSY_TRIES = 60
TRIES = max(BUSY_TRIES, settings.killed_tries())
PROGRESS_LINE = re.compile(r"\d+% \d+/\d+ ")
LOST_WORKER = "DataLoader worker .*(is killed by signal|exited unexpectedly)|process pool was terminated abruptly"  # and the stage with it
KILLED = re.compile(rf"exited with (-\d+|75|137|143)\b|{LOST_WORKER}")  # 75: told to stop, and saved


@dataclass(frozen=True)
class StageRecord:
    """What a stage has written (path: md5), where its figures are, and what it cost; ``reused`` when DVC had nothing to do."""

    stage: str
    scale: str
    reused: bool
    outs: Mapping[str, str]
    mlflow_run: str | None = None
    span_s: float = 0.0
    peak_mib: float = 0.0
    finished: float = field(default_factory=time.time)


class StageFailed(RuntimeError):
    """A stage ended with an error; ``tries`` says how often it is worth trying: one for a real fault."""

    def __init__(self, message: str, tries: int) -> None:
        super().__init__(message)
        self.tries = tries


def _worth_another_try(_task: Any, run: Any, state: Any) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageFailed) and run.run_count < error.tries


@task(retries=TRIES, retry_delay_seconds=settings.retry_s(), retry_condition_fn=_worth_another_try, cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: str, scale: str, journey: str, flow_run_id: str, progress: str, slots_taken: int, force: bool = False) -> StageRecord:
    """Bring one stage up to date and return its record. Raises StageFailed with the end of its log."""
    started = time.time()
    append(Path(progress), event="step", job=stage, text="waiting for the stage of another run")
    with concurrency(slots.WORKSPACE, occupy=slots_taken, lease_duration=slots.LEASE_S, raise_on_lease_renewal_failure=False):
        append(Path(progress), event="step", job=stage, text="starting")
        work = _Work(stage, scale, Path(progress), lambda: tracking.parent_run(journey, scale, flow_run_id))
        work.execute(force)
    drop_checkpoints(stage, scale)
    outs = Dag(scale).recorded(stage)
    if work.run_id:
        tracking.tag_outputs(work.run_id, outs)
    return StageRecord(stage, scale, work.run_id is None, outs, work.run_id, time.time() - started, work.peak / 2**20)


class _Work:
    """One execution of ``dvc repro``: the child process and everything that watches it."""

    def __init__(self, stage: str, scale: str, progress: Path, parent: Any) -> None:
        self.stage, self.scale, self.parent = stage, scale, parent
        self.follower = Follower(progress, from_end=True)
        self.progress = progress
        self.logger = get_run_logger()
        self.tail: deque[str] = deque(maxlen=40)
        self.forwarder: tracking.Forwarder | None = None
        self.events = events_folder(scale, stage)
        self.artifact: Any = None
        self.peak = 0

    @property
    def run_id(self) -> str | None:
        """The stage's MLflow run; None when nothing had to be done."""
        return self.forwarder.run_id if self.forwarder else None

    def execute(self, force: bool) -> None:
        """Run to the end, or raise StageFailed."""
        (self.events / "events.jsonl").unlink(missing_ok=True)
        child = subprocess.Popen(
            [sys.executable, "-m", "flows.dvc", "--wait-for-lock", "repro", "--single-item", *(["--force"] if force else []), f"{self.stage}@{self.scale}"],
            cwd=settings.ROOT,
            env=stage_environment(self.progress, self.stage),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert child.stdout is not None
        reader = threading.Thread(target=self._read, args=(child.stdout,), daemon=True)
        reader.start()
        try:
            self._watch(child)
        finally:
            end_group(child, self.events / STOPPING)
            reader.join(timeout=5)
        self._forward()
        if child.returncode != 0:
            if self.forwarder:
                self.forwarder.fail()
            raise self._failure(child.returncode)
        self._show(100.0, "done")

    def _watch(self, child: subprocess.Popen[str]) -> None:
        forwarded = time.monotonic()
        while True:
            try:
                child.wait(TICK_S)
                return
            except subprocess.TimeoutExpired:
                pass
            self.peak = max(self.peak, memory.resident(child.pid))
            if time.monotonic() - forwarded >= FORWARD_S:
                self._forward()
                self._report_progress()
                forwarded = time.monotonic()

    def _read(self, stream: TextIO) -> None:
        folder = settings.ROOT / settings.runs_folder(self.scale) / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"{self.stage}.log", "w") as log:
            for line in stream:
                log.write(line)
                log.flush()
                self.tail.append(line.rstrip())
                if line.strip() and not PROGRESS_LINE.search(line):
                    self.logger.info(line.rstrip())

    def _forward(self) -> None:
        """Pass the stage's events on to MLflow; a tracker that fails must not fail the training."""
        if not (self.events / "events.jsonl").exists():
            return
        try:
            if self.forwarder is None:
                tracker = tracking.client()
                self.forwarder = tracking.Forwarder(tracker, self.events, f"qi2-{self.scale}", self.parent())
            self.forwarder.pump()
        except Exception as error:
            self.logger.warning("MLflow did not take the events of %s (%s); they remain in %s", self.stage, error, self.events)

    def _report_progress(self) -> None:
        lines = [line for line in self.follower.read() if line.get("job") == self.stage and "label" in line]
        if lines:
            last = lines[-1]
            left = "" if last.get("eta_s") is None else f", {last['eta_s']:.0f} s left"
            self._show(100 * last["done"] / last["total"], f"{last['label']} {last['done']}/{last['total']}, {last['rate']:.1f}/s{left}")

    def _show(self, percent: float, text: str) -> None:
        if self.artifact is None:
            self.artifact = create_progress_artifact(progress=percent, key=f"progress-{self.stage}-{self.scale}".replace("_", "-"), description=text)
        else:
            update_progress_artifact(self.artifact, progress=percent, description=text)

    def _failure(self, code: int) -> StageFailed:
        text = "\n".join(self.tail)
        killed = KILLED.search(text) is not None or code < 0
        busy = any(sign in text for sign in BUSY)
        advice = "It was killed, perhaps for want of memory; a new try continues from its last checkpoint." if killed else ""
        tries = BUSY_TRIES if busy else settings.killed_tries() if killed else 1
        return StageFailed(f"Stage {self.stage}@{self.scale} failed. {advice}\n{text}", tries)


def stage_environment(progress: Path, stage: str) -> dict[str, str]:
    """What a stage's process needs to know: where to leave progress and events, and whom to end with."""
    folder = str(Path(sys.executable).parent)
    own = {EVENTS: "1", FLOW_PID: str(os.getpid()), "QI2_PROGRESS_FILE": str(progress), "QI2_PROGRESS_JOB": stage}
    return {**settings.environment(), **own, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}


def end_group(child: subprocess.Popen[str], told: Path) -> None:
    """Stop what is left of a stage that was cancelled, that failed, or whose DVC was killed, and return when all of it is gone.

    DVC dies at once, the stage finishes its step and saves: it is waited for up to the grace time, so that no retry starts beside it. ``told`` is a file
    that says to the stage's own watch that it has had its signal: a second one would cut the saving short.
    """
    left = _members(child.pid)
    if left:
        told.parent.mkdir(parents=True, exist_ok=True)
        told.touch()
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + settings.grace_s()
    while left and time.monotonic() < deadline:
        child.poll()
        time.sleep(0.2)
        left = _members(child.pid)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    child.wait()


def _members(group: int) -> list[psutil.Process]:
    """The processes of a group that work; dead ones that nobody asks for, as in many containers, do not count."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def drop_checkpoints(stage: str, scale: str) -> None:
    """Remove what a killed try would have continued from: DVC has the result, or it is to be made anew."""
    out = Path(Dag(scale).stages[stage].outs[0]).name
    shutil.rmtree(checkpoints_folder(scale, out), ignore_errors=True)


def remember(record: StageRecord) -> None:
    """Keep the record of a stage that has run, for the time summary and for links from later, unchanged runs."""
    path = settings.ROOT / settings.runs_folder(record.scale) / "records.jsonl"
    append(path, **{**asdict(record), "outs": dict(record.outs)})
