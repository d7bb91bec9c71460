"""Independent work side by side: one process per piece, which reports through this one and stops with it.

The processes are in sessions of their own, so that what stops the whole group (a flow, Ctrl-C) reaches this one alone. It passes SIGTERM on,
waits until each has saved what it was doing, and raises their `Interrupted`. A process whose parent is gone ends by itself.
"""

import base64
import io
import json
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qi2.core.errors import Interrupted, QI2Error
from qi2.core.reporter import NullReporter, Reporter

if TYPE_CHECKING:
    from PIL.Image import Image

Work = Callable[[Reporter], Any]
SAID, RESULT, ERROR = "said", "result", "error"
PATIENCE_S = 120.0  # for processes to save and end after an error elsewhere; then they are ended by force


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(works: Sequence[Work], reporter: Reporter) -> list[Any]:
    """The results of all works, each in a process that starts now; works and results are pickled, and what they report passes through ``reporter``.

    Raises the QI2Error of the first that fails (the others are told to stop and may save), Interrupted after SIGTERM, and QI2Error where
    a process dies.
    """
    lanes = [_Lane(work) for work in works]
    try:
        with _passed_on(lanes):
            while open_ones := {lane.end: lane for lane in lanes if not lane.closed}:
                for end in wait(list(open_ones)):
                    open_ones[end].listen(reporter)  # type: ignore[index]
                if any(lane.error and not isinstance(lane.error, Interrupted) for lane in lanes):
                    break
    finally:
        _stop(lanes)
    for error in sorted((lane.error for lane in lanes if lane.error), key=lambda error: isinstance(error, Interrupted)):
        raise error
    return [lane.result for lane in lanes]


class _Lane:
    """One process, seen from its parent."""

    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self.end, other = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(target=_work, args=(work, other))
        self.process.start()
        other.close()
        self.closed = False
        self.result: Any = None
        self.error: QI2Error | None = None

    def listen(self, reporter: Reporter) -> None:
        """Take what it says, once."""
        try:
            kind, said = pickle.loads(self.end.recv_bytes())
        except EOFError:
            self.closed = True
            self.process.join()
            if self.process.exitcode:
                self.error = self.error or QI2Error(f"a process ended with code {self.process.exitcode}; what it said stands above, or memory ran out")
            return
        if kind == SAID:
            say(reporter, said)
        elif kind == RESULT:
            self.result = said
        else:
            self.error = said


@contextmanager
def _passed_on(lanes: Sequence[_Lane]) -> Iterator[None]:
    """Pass every SIGTERM on to the processes; only the main thread may listen to signals."""

    def told(signum: int, frame: Any) -> None:
        for lane in lanes:
            lane.process.terminate()
            lane.error = lane.error or Interrupted("told to stop; the same command goes on from what was saved")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, told)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(lanes: Sequence[_Lane]) -> None:
    """No process outlives this."""
    for lane in lanes:
        if lane.process.is_alive() and not lane.closed:
            lane.process.terminate()
    for lane in lanes:
        while not lane.closed and lane.end.poll(PATIENCE_S):
            lane.listen(NullReporter())  # whoever is heard can end
        lane.process.join(PATIENCE_S)
        lane.process.kill()
        lane.end.close()


def _work(work: Work, end: Connection) -> None:
    """In the new process."""
    with suppress(OSError):
        os.setsid()
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        found = RESULT, work(RelayReporter(lambda event: end.send_bytes(pickle.dumps((SAID, event)))))
    except QI2Error as error:
        found = ERROR, error
    end.send_bytes(pickle.dumps(found))


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


class RelayReporter(NullReporter):
    """Says everything elsewhere, as events that JSON can hold. After a resume it says again what was said before and has not yet been said here."""

    def __init__(self, send: Callable[[Mapping[str, Any]], None]) -> None:
        self._send = send
        self._said: list[dict[str, Any]] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self._say(kind="metrics", values={name: float(value) for name, value in values.items()}, step=int(step))

    def image(self, key: str, image: "Image", step: int) -> None:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        self._say(kind="image", key=key, png=base64.b64encode(buffer.getvalue()).decode(), step=int(step))

    def text(self, name: str, text: str) -> None:
        self._say(kind="text", name=name, text=text)

    def file(self, path: Path) -> None:
        self._say(kind="file", path=str(path))

    def state(self) -> dict[str, bytes]:
        return {"said.json": json.dumps(self._said).encode()}

    def restore(self, state: Mapping[str, bytes]) -> None:
        for event in json.loads(state.get("said.json", b"[]"))[len(self._said) :]:
            self._say(**event)

    def _say(self, **event: Any) -> None:
        self._said.append(event)
        self._send(event)


def say(reporter: Reporter, event: Mapping[str, Any]) -> None:
    """What a `RelayReporter` said."""
    if event["kind"] == "metrics":
        reporter.metrics(event["values"], event["step"])
    elif event["kind"] == "image":
        from PIL import Image

        reporter.image(event["key"], Image.open(io.BytesIO(base64.b64decode(event["png"]))), event["step"])
    elif event["kind"] == "text":
        reporter.text(event["name"], event["text"])
    else:
        reporter.file(Path(event["path"]))
