"""Vectors with ids on disk: append-only segments behind one manifest, which is replaced as a whole; a kill at any moment leaves the last good state.

``manifest.json`` names every file with its sha256. A segment is ``segment-N.npy`` (rows, width) float32 with ``segment-N.json``, its ids; ``removed-N.npy``
are the positions, counted over all segments, of rows that are gone. A file that no manifest names was left by a killed writer; the next one removes it.
Writers hold ``.lock`` alone, readers share it while they open files: what they have opened stays readable after a writer has removed it.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from qi2.core.errors import QI2Error
from qi2.core.publish import file_sha256, write_file

T = TypeVar("T")
MANIFEST, LOCK = "manifest.json", ".lock"
LARGEST = 1 << 17  # rows of a segment that is not merged with the next any more


class Stale(QI2Error):
    """Another process has changed a folder since it was opened."""


@dataclass
class State:
    """What the manifest says. ``segments``: (file stem, rows); ``files``: name to sha256; ``ann``: file of the approximate index and how many rows it holds."""

    width: int
    generation: int = 0
    segments: list[tuple[str, int]] = field(default_factory=list)
    removed: str = ""
    ann: str = ""
    ann_rows: int = 0
    files: dict[str, str] = field(default_factory=dict)


class Segments:
    """All rows of a folder, removed ones included, by position; vectors are mapped from disk."""

    def __init__(self, folder: Path, width: int) -> None:
        """Open, or begin, a folder. Raises QI2Error for a damaged file and for vectors of another width."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ids: list[str] = []
        self.parts: list[np.ndarray] = []
        with _locked(self.folder, fcntl.LOCK_SH):
            self.state = _read_state(self.folder, width)
            if self.state.width != width:
                raise QI2Error(f"{self.folder} holds vectors of width {self.state.width}, not {width}; embed with the same model, or choose another folder")
            if torn := self._torn():
                raise QI2Error(
                    f"{torn} is missing or torn: its hash is not that of {MANIFEST}; restore it from a copy, or remove {self.folder} and index again"
                )
            self._load()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def starts(self) -> np.ndarray:
        """Position of the first row of every segment, and the number of rows."""
        return np.concatenate([[0], np.cumsum([rows for _, rows in self.state.segments])]).astype(np.int64)

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Vectors (n, width) of rows by position; fastest where positions ascend."""
        if len(positions) > 1 and (positions[1:] < positions[:-1]).any():
            order = np.argsort(positions, kind="stable")
            found = np.empty((len(positions), self.state.width), np.float32)
            found[order] = self.take(positions[order])
            return found
        found = np.empty((len(positions), self.state.width), np.float32)
        ends = np.searchsorted(positions, self._starts).tolist()
        for start, begin, end, part in zip(self._starts.tolist(), ends, ends[1:], self.parts, strict=False):
            if end > begin:
                np.take(part, positions[begin:end] - start, axis=0, out=found[begin:end], mode="clip")  # "raise" would copy once more
        return found

    def blocks(self, first: int = 0, size: int = 65536) -> Iterator[np.ndarray]:
        """All vectors from a position on, some at a time."""
        for start, part in zip(self._starts, self.parts, strict=False):
            for begin in range(max(0, first - int(start)), len(part), size):
                yield np.ascontiguousarray(part[begin : begin + size])

    def change(self, ids: Sequence[str], vectors: np.ndarray, gone: np.ndarray) -> None:
        """Append rows and mark positions as gone, in one step that is on the disk when this returns."""
        with self._writing() as state:
            if len(ids):
                self._append(state, list(ids), vectors)
            if len(gone):
                self._mark(state, gone)

    def rewrite(self) -> None:
        """Leave out what is gone: positions change."""
        keep = np.flatnonzero(self.alive)
        with self._writing() as state:
            state.segments, state.files, state.removed, state.ann, state.ann_rows = [], {}, "", "", 0
            for begin in range(0, len(keep), LARGEST):
                rows = keep[begin : begin + LARGEST]
                self._store(state, [self.ids[i] for i in rows], self.take(rows))

    def attach(self, rows: int, write: Callable[[Path], None]) -> None:
        """Keep an approximate index of the first ``rows`` rows in a file that ``write`` writes."""
        with self._writing() as state:
            state.files.pop(state.ann, None)
            state.ann, state.ann_rows = self._name(state, "ann", ".faiss"), rows
            write(self.folder / state.ann)
            self._seal(state, state.ann)

    def ann(self, read: Callable[[Path], T]) -> T | None:
        """The approximate index, read from its file by ``read``; None where there is none, or it is damaged or replaced, since it can be made again."""
        with _locked(self.folder, fcntl.LOCK_SH):
            path = self.folder / self.state.ann
            if self.state.ann and path.is_file() and file_sha256(path) == self.state.files[self.state.ann]:
                return read(path)
        self.state.ann_rows = 0
        return None

    def _torn(self) -> Path | None:
        """The first file that is not what its hash says; the approximate index is looked at where it is asked for."""
        named = ((self.folder / name, sha256) for name, sha256 in self.state.files.items() if name != self.state.ann)
        return next((path for path, sha256 in named if not path.is_file() or file_sha256(path) != sha256), None)

    def _load(self) -> None:
        self._starts, known = self.starts, len(self.ids)
        if known and known in self._starts.tolist() and known == sum(map(len, self.parts)) and not self._renamed():
            fresh = [stem for stem, _ in self.state.segments][len(self.parts) :]
        else:
            self.ids, self.parts, fresh = [], [], [stem for stem, _ in self.state.segments]
        for stem in fresh:
            self.ids += json.loads((self.folder / f"{stem}.json").read_bytes())
            self.parts.append(np.load(self.folder / f"{stem}.npy", mmap_mode="r"))
        self._stems = [stem for stem, _ in self.state.segments]
        self.alive = np.ones(len(self.ids), bool)
        if self.state.removed:
            self.alive[np.load(self.folder / self.state.removed)] = False

    def _renamed(self) -> bool:
        return [stem for stem, _ in self.state.segments][: len(self._stems)] != self._stems

    def _append(self, state: State, ids: list[str], vectors: np.ndarray) -> None:
        """New rows as a segment, together with the last ones while these are not twice as large: so there are few, and each row is copied log N times."""
        number, first = len(state.segments), len(self.ids)
        own, total = len(ids), len(ids)
        while number and state.segments[number - 1][1] < 2 * own and total + state.segments[number - 1][1] <= LARGEST:
            number, own, total = number - 1, total + state.segments[number - 1][1], total + state.segments[number - 1][1]
        if number < len(state.segments):
            begin = int(self._starts[number])
            ids = self.ids[begin:] + ids
            vectors = np.concatenate([self.take(np.arange(begin, first)), vectors])
            for stem, _ in state.segments[number:]:
                del state.files[f"{stem}.npy"], state.files[f"{stem}.json"]
            del state.segments[number:]
        for begin in range(0, len(ids), LARGEST):
            self._store(state, ids[begin : begin + LARGEST], vectors[begin : begin + LARGEST])

    def _store(self, state: State, ids: list[str], vectors: np.ndarray) -> None:
        stem = self._name(state, "segment", "")
        np.save(self.folder / f"{stem}.npy", np.ascontiguousarray(vectors, np.float32))
        (self.folder / f"{stem}.json").write_text(json.dumps(ids))
        self._seal(state, f"{stem}.npy")
        self._seal(state, f"{stem}.json")
        state.segments.append((stem, len(ids)))

    def _mark(self, state: State, gone: np.ndarray) -> None:
        state.files.pop(state.removed, None)
        before = np.flatnonzero(~self.alive)
        state.removed = self._name(state, "removed", ".npy")
        np.save(self.folder / state.removed, np.union1d(before, gone).astype(np.int64))
        self._seal(state, state.removed)

    def _name(self, state: State, what: str, suffix: str) -> str:
        return f"{what}-{state.generation:06d}-{len(state.segments):04d}{suffix}"

    def _seal(self, state: State, name: str) -> None:
        """Flush a file to disk and note its hash."""
        with open(self.folder / name, "rb") as handle:
            os.fsync(handle.fileno())
        state.files[name] = file_sha256(self.folder / name)

    @contextmanager
    def _writing(self) -> Iterator[State]:
        """A copy of the state that becomes the folder's when the block ends; one writer at a time, and none that has not seen the last one's work."""
        with _locked(self.folder, fcntl.LOCK_EX):
            if _read_state(self.folder, self.state.width).generation != self.state.generation:
                raise Stale(f"{self.folder} was changed by another process since it was opened; open it again and repeat the change")
            self._sweep()
            state = _parsed(asdict(self.state))
            state.generation += 1
            yield state
            write_file(self.folder / MANIFEST, json.dumps(asdict(state)).encode())
            self.state = state
            self._load()
            self._sweep()

    def _sweep(self) -> None:
        """Remove what the manifest does not name; a mapped file stays readable until it is let go."""
        kept = {*self.state.files, MANIFEST, LOCK}
        for path in self.folder.iterdir():
            if path.name not in kept and path.is_file():
                path.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Hold the folder's lock, shared or alone; a folder that can only be read can be shared."""
    if not (folder / LOCK).exists():
        (folder / LOCK).touch()
    with open(folder / LOCK, "rb" if how == fcntl.LOCK_SH else "ab") as lock:
        fcntl.flock(lock, how)
        yield


def _read_state(folder: Path, width: int) -> State:
    path = folder / MANIFEST
    if not path.exists():
        return State(width)
    try:
        return _parsed(json.loads(path.read_bytes()))
    except (ValueError, TypeError, KeyError) as error:
        raise QI2Error(f"{path} is damaged ({error}); remove {folder} and index again") from error


def _parsed(values: dict[str, Any]) -> State:
    return State(**{**values, "segments": [(stem, rows) for stem, rows in values["segments"]], "files": dict(values["files"])})
