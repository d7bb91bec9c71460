"""A JSON-lines file that one process appends to and another follows."""

import json
import time
from pathlib import Path
from typing import Any


def append(path: Path, /, **values: Any) -> dict[str, Any]:
    """Add one line, stamped with the time in seconds since the epoch (unless ``values`` has one), and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {"time": time.time(), **values}
    with open(path, "a") as handle:
        handle.write(json.dumps(line) + "\n")
    return line


class Follower:
    """Reads a file as it grows; an unfinished last line waits for the next read."""

    def __init__(self, path: Path, from_end: bool = False) -> None:
        self.path = path
        self._offset = path.stat().st_size if from_end and path.exists() else 0

    def read(self) -> list[dict[str, Any]]:
        """New lines, oldest first; none before the file exists."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as handle:
            handle.seek(self._offset)
            block = handle.read()
        complete = block[: block.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [json.loads(line) for line in complete.splitlines()]
