"""Lets one process at a time do what two must not do at once; the others say so and wait.

``python3.11 flows/alone.py LOCK WHAT COMMAND ...`` runs before anything is installed: standard library only. The system gives a lock back
when its holder ends, however it ends, so that none is ever left behind.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(lock: Path, what: str) -> Iterator[int]:
    """Hold ``lock``, a file that is made where it is missing; yields its descriptor. ``what`` tells those who wait what they wait for."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for {what}", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


def main(lock: str, what: str, *command: str) -> None:
    """Become ``command``, which with its children holds the lock to its end."""
    with alone(Path(lock), what) as descriptor:
        os.set_inheritable(descriptor, True)
        os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
