"""Publish a result folder as a whole or not at all.

Write into a staging folder, flush to disk, write the manifest of hashes last, then rename. A reader therefore sees either the old folder or the
complete new one. A killed writer leaves hidden folders beside its target, which the next one removes; one that was killed between the two renames
that replace an old folder leaves none in its place, and whoever publishes or verifies next puts the old one back (`recover`).
"""

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qi2.core.errors import QI2Error
from qi2.core.ranks import is_main

MANIFEST = "manifest.json"
PATIENCE_S = 0.1
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTEMPTY}


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Yield an empty staging folder that replaces ``target`` when the block ends without an error.

    In a distributed run every rank comes here, and rank 0 alone publishes: the others get a temporary folder, which is discarded.

    Raises QI2Error when the disk is full or the place cannot be written; ``target`` then is what it was.
    """
    target = Path(target)
    if not is_main():
        with tempfile.TemporaryDirectory(prefix="qi2-") as discarded:
            yield Path(discarded)
        return
    staging = _beside(target, "staging")
    with _explained(target):
        recover(target)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            yield staging
            _write_manifest(staging)
            _exchange(staging, target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)  # a full disk has room again
            raise


def recover(target: Path) -> None:
    """Undo an exchange that was cut short: put the old folder back where nothing has taken its place, and remove it where something has."""
    old, gone = _beside(target, "old"), _beside(target, "gone")
    if old.exists():
        shutil.rmtree(gone, ignore_errors=True)
        old.rename(gone if target.exists() else target)  # renamed before it is removed: what is called old is always whole
    shutil.rmtree(gone, ignore_errors=True)


def _exchange(staging: Path, target: Path) -> None:
    try:
        if target.exists():
            target.rename(_beside(target, "old"))
        staging.rename(target)
    finally:
        recover(target)
    _sync(target.parent)


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_manifest(folder: Path) -> None:
    found = sorted(path for path in folder.rglob("*") if path != folder / MANIFEST)
    hashes = {}
    for path in found:
        _sync(path)  # of a folder: the names in it
        if path.is_file():
            hashes[path.relative_to(folder).as_posix()] = file_sha256(path)
    (folder / MANIFEST).write_text(json.dumps({"files": hashes}, indent=1))
    _sync(folder / MANIFEST)
    _sync(folder)


def write_file(path: Path, data: bytes) -> None:
    """Write one file as a whole or not at all: beside its place, flushed to disk, then renamed. Several processes may write the same one.

    Raises QI2Error when the disk is full or the place cannot be written; what was there before stays.
    """
    staging = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    with _explained(path):
        try:
            staging.write_bytes(data)
            _sync(staging)
            staging.replace(path)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise
        _sync(path.parent)


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Tell a full disk and a place that cannot be written in the user's terms."""
    try:
        yield
    except Exception as error:
        code = _system_error(error)
        if code in FULL:
            advice = "free some space (df shows where)"
        elif code in REFUSED and _concerns(error, target):
            advice = f"make {target.parent} writable for this user, or choose another place"
        else:
            raise
        raise QI2Error(f"{target} could not be written: {error}; {advice} and give the same command again. What was there before is as it was.") from error


def _system_error(error: Exception) -> int | None:
    """The system's number of an error; safetensors has it in its text."""
    if isinstance(error, OSError):
        return error.errno
    named = re.search(r"os error (\d+)", str(error))
    return int(named[1]) if named else None


def _concerns(error: Exception, target: Path) -> bool:
    """Whether it was ``target``, a folder above it or a hidden one beside it that could not be written, and not something that was read meanwhile."""
    name = str(getattr(error, "filename", None) or target)
    return str(target).startswith(name) or f".{target.name}." in name or name == str(target.parent)


def verify(folder: Path) -> dict[str, str]:
    """Check a published folder against its manifest and return {relative path: sha256}.

    Raises QI2Error that names the first missing or changed file.
    """
    folder = Path(folder)
    if not folder.exists() and _beside(folder, "old").exists():
        time.sleep(PATIENCE_S)  # a writer that lives is done by then
        with suppress(OSError):  # a reader may lack the right to put the old folder back
            recover(folder)
    return _checked(folder)


def _checked(folder: Path) -> dict[str, str]:
    if not (folder / MANIFEST).exists():
        raise QI2Error(f"{folder} has no {MANIFEST}: it was not finished; run the stage that writes it again")
    try:
        hashes: dict[str, str] = dict(json.loads((folder / MANIFEST).read_bytes())["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise QI2Error(f"{folder / MANIFEST} is damaged ({error}); run the stage that writes {folder} again") from error
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file() or file_sha256(path) != expected:
            raise QI2Error(f"{path} is missing or differs from {MANIFEST}; run the stage that writes {folder} again")
    return hashes


def valid(folder: Path) -> bool:
    """Whether a published folder is whole, by its hashes. Never raises: why a folder is passed over is said on stderr."""
    try:
        verify(folder)
    except (QI2Error, OSError) as error:
        sys.stderr.write(f"passing over {folder}: {error}\n")
        return False
    return True


def newest_valid(folders: Iterable[Path]) -> Path | None:
    """The last of ``folders``, given oldest first, that is whole; None when none is. A damaged one never hides an older good one."""
    return next((folder for folder in reversed(list(folders)) if valid(folder)), None)
