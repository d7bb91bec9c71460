"""Where the time went: wall seconds by section, so that useful compute can be told from overhead."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """Adds up wall seconds per named section, e.g. ``import``, ``compute``, ``evaluate``, ``log``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count the block's wall time under ``name``."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start
