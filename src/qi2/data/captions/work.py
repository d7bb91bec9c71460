"""Finished batches of an unfinished run: one file each, committed by a rename, and recognised when torn."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Work:
    """A folder of parts under a key of everything that the records depend on; other keys' parts are of no use and go."""

    def __init__(self, folder: Path, key: str) -> None:
        self.root, self.folder = folder, folder / key
        for old in folder.glob("*") if folder.exists() else ():
            if old.name != key:
                shutil.rmtree(old)
        self.folder.mkdir(parents=True, exist_ok=True)

    def read(self, index: int) -> list[Record] | None:
        """The records of a batch, or None where it has to be done; its last line holds the hash of the lines before it."""
        path = self._path(index)
        if not path.exists():
            return None
        body, _, last = path.read_bytes().rstrip(b"\n").rpartition(b"\n")
        if last != _digest(body):
            return None
        return [json.loads(line) for line in body.splitlines()]

    def write(self, index: int, records: list[Record]) -> None:
        """Commit the records of a batch."""
        body = "\n".join(json.dumps(record) for record in records).encode()
        staged = self._path(index).with_suffix(".tmp")
        with open(staged, "wb") as handle:
            handle.write(body + b"\n" + _digest(body) + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        staged.rename(self._path(index))

    def remove(self) -> None:
        """Forget everything, once the result is published."""
        shutil.rmtree(self.root)

    def _path(self, index: int) -> Path:
        return self.folder / f"part-{index:07d}.jsonl"


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
