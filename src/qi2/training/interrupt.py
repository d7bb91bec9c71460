"""SIGTERM while training: the step is finished and saved, then the run ends. A second one ends it at once.

The periodic checkpoint is what a run can rely on; this one saves the steps since then, where the machine leaves the time.
"""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """Remembers that SIGTERM came. `install` takes the handler over, also from Lightning, whose own raises in the middle of things."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: Any = None

    def install(self) -> None:
        """From now on; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._handle)

    def uninstall(self) -> None:
        """Give the handler back."""
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
            self._previous = None

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.asked:
            os._exit(128 + signum)
        self.asked = True
        os.write(sys.stderr.fileno(), b"told to stop: finishing the step and saving it; once more ends at once\n")


def ignore_in_worker(_: int) -> None:
    """For processes that prepare batches: the run decides when they end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
