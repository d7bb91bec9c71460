"""Publish a result folder as a whole or not at all.

Write into a staging folder, flush to disk, write the manifest of hashes last, then rename once. A reader therefore
sees either the old folder or the complete new one; a killed writer leaves only a staging folder behind.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qi2.core.errors import QI2Error

MANIFEST = "manifest.json"


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_manifest(folder: Path) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    hashes = {}
    for path in files:
        _sync(path)
        hashes[path.relative_to(folder).as_posix()] = file_sha256(path)
    (folder / MANIFEST).write_text(json.dumps({"files": hashes}, indent=1))
    _sync(folder / MANIFEST)


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Yield an empty staging folder that replaces ``target`` when the block ends without an error."""
    target = Path(target)
    staging = target.with_name(f".{target.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    yield staging
    _write_manifest(staging)
    if target.exists():
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        staging.rename(target)
        shutil.rmtree(old)
    else:
        staging.rename(target)
    _sync(target.parent)


def write_file(path: Path, data: bytes) -> None:
    """Write one file as a whole or not at all: beside its place, flushed to disk, then renamed."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.write_bytes(data)
    _sync(staging)
    staging.replace(path)


def verify(folder: Path) -> dict[str, str]:
    """Check a published folder against its manifest and return {relative path: sha256}.

    Raises QI2Error that names the first missing or changed file.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).exists():
        raise QI2Error(f"{folder} has no {MANIFEST}: it was not finished; run the stage that writes it again")
    hashes: dict[str, str] = json.loads((folder / MANIFEST).read_text())["files"]
    for name, expected in hashes.items():
        path = folder / name
        if not path.exists() or file_sha256(path) != expected:
            raise QI2Error(f"{path} is missing or differs from {MANIFEST}; run the stage that writes {folder} again")
    return hashes
