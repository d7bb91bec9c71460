"""What a source is, by looking at it; a new kind is one file, one line here and one test."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from qi2.core.errors import QI2Error
from qi2.data.sources import s3
from qi2.data.sources.folder import images, read_folder
from qi2.data.sources.rows import UserRow
from qi2.data.sources.tables import TABLES, read_arrow, read_csv, read_jsonl, read_parquet, read_tables, tables
from qi2.data.sources.webdataset import TARS, read_shards, read_tar, shards

READERS: dict[str, Callable[[Path], Iterator[UserRow]]] = {
    "folder": read_folder,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "parquet": read_parquet,
    "tables": read_tables,
    "arrow": read_arrow,
    "tar": read_tar,
    "shards": read_shards,
}
ARROW_MARKS = ("state.json", "dataset_dict.json")  # what `datasets.save_to_disk` leaves
WANTED = "give a folder of images with .txt captions, a table (.jsonl, .csv, .tsv, .parquet), tar shards, a datasets folder, or s3://BUCKET/PREFIX"


def read_source(source: str | Path, cache: Path) -> Iterator[UserRow]:
    """All rows of a source in a fixed order; raises QI2Error that names the file and row that cannot be understood.

    Objects of a bucket are first copied below ``cache``.
    """
    path = s3.fetch(str(source), cache) if _remote(source) else Path(source)
    kind, place = _look(path, str(source))
    return READERS[kind](place)


def source_kind(source: str | Path) -> str:
    """One of `READERS` for a local path; raises QI2Error for anything else."""
    return _look(Path(source), str(source))[0]


def _look(path: Path, source: str) -> tuple[str, Path]:
    """The kind of a path, and what its reader takes: of a folder with a table of its images, that table."""
    if not path.exists():
        raise QI2Error(f"data.source={source} does not exist; {WANTED}")
    if path.is_dir():
        return _look_into(path, source)
    if path.name.lower().endswith(TARS):
        return "tar", path
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise QI2Error(f"data.source={source} is none of: {', '.join(sorted((*TABLES, *TARS)))}; {WANTED}")
    return {".tsv": "csv"}.get(suffix, suffix.lstrip(".")), path


def _look_into(folder: Path, source: str) -> tuple[str, Path]:
    if any((folder / mark).exists() for mark in ARROW_MARKS):
        return "arrow", folder
    for suffix in TABLES:
        if (folder / f"metadata{suffix}").exists():
            return _look(folder / f"metadata{suffix}", source)
    for kind, found in (("folder", images), ("shards", shards), ("tables", tables)):
        if found(folder):
            return kind, folder
    raise QI2Error(f"data.source={source} has no images, no tar shards and no tables; {WANTED}")


def fingerprint(source: str | Path) -> str:
    """Hex digest that changes when a source's files do: names, sizes and modification times, of objects their ETags. Empty for no source."""
    if not str(source):
        return ""
    digest = hashlib.sha256()
    for line in _remote_state(str(source)) if _remote(source) else _state(Path(source)):
        digest.update(f"{line}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _remote(source: str | Path) -> bool:
    return str(source).startswith(s3.SCHEME)


def _remote_state(source: str) -> Iterator[str]:
    for entry in s3.objects(source):
        yield f"{entry['Key']}|{entry['Size']}|{entry['ETag']}"


def _state(root: Path) -> Iterator[str]:
    if not root.exists():
        raise QI2Error(f"{root} does not exist; {WANTED}")
    for file in sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]:
        facts = file.stat()
        yield f"{file.relative_to(root) if root.is_dir() else file.name}|{facts.st_size}|{facts.st_mtime_ns}"
