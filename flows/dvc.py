"""``python -m flows.dvc ...``: DVC, made safe against being killed while it writes.

DVC writes dvc.lock, and the table of who reads and writes what, in place: a kill in the middle leaves a cut-off file, which no later command accepts, and
with it the record of every stage is lost. Here each file is written beside the old one, which it then replaces; a table that was cut off is made anew.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TMP = Path(".dvc") / "tmp"
WAIT_S = 10.0  # for another process that writes the table


def main(arguments: list[str]) -> int:
    """Run a DVC command in the current folder, as ``python -m dvc`` does."""
    from dvc.cli import main as dvc

    write_whole()
    mend_table(TMP)
    return int(dvc(arguments))


def write_whole() -> None:
    """Let DVC write its YAML files by `dump_whole` from now on."""
    from dvc.utils.serialize import _common, _yaml

    _common._dump_data = _yaml._dump_data = dump_whole  # type: ignore[attr-defined]


def dump_whole(path: Any, data: Any, dumper: Callable[..., Any], fs: Any = None, **arguments: Any) -> None:
    """What DVC's own does, through a new file; ``fs`` is the local one wherever a project's files are written."""
    target = Path(os.fspath(path))
    staging = target.with_name(f".{target.name}.new")
    with open(staging, "w", encoding="utf-8") as file:
        dumper(data, file, **arguments)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staging, target)


def mend_table(folder: Path) -> None:
    """Remove a table of readers and writers that was cut off; those in it are dead or will be found busy by DVC's lock."""
    table = folder / "rwlock"
    if _whole(table):
        return
    import zc.lockfile

    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            guard = zc.lockfile.LockFile(str(folder / "rwlock.lock"))
            break
        except zc.lockfile.LockError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
    try:
        if not _whole(table):
            table.unlink()
    finally:
        guard.close()


def _whole(table: Path) -> bool:
    try:
        json.loads(table.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
