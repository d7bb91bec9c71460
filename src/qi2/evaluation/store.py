"""Pictures and answers that are made once: a picture per model, prompt, noise and setting, an answer per picture, row and scorer.

``pictures/ab/HASH.png`` holds every picture under the hash of its bytes; ``index.sqlite`` says which key has which picture, what it took to draw, and what
scorers answered on it. A picture is written as a whole before the index names it, so a kill at any time loses at most what was not yet indexed; what is
read is checked against its hash, and a damaged picture (a power cut may tear one) counts as missing, to be drawn again. Several processes may share a store.
"""

import hashlib
import io
import json
import os
import sqlite3
import struct
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.publish import file_sha256

TABLES = """
create table if not exists pictures (key text primary key, picture text not null, model text not null, facts text not null, seconds real not null);
create table if not exists answers (key text primary key, picture text not null, answer text not null);
create table if not exists files (path text primary key, size integer not null, changed integer not null, hash text not null);
"""
FOLDER = "QI2_STORE"  # environment variable: another folder than the default
LIMIT, LIMIT_GIB = "QI2_STORE_GIB", 20.0  # environment variable: what nightly evaluation prunes to
SMALL = 128 * 128  # pixels of a picture that is not packed
YOUNG_S = 3600.0  # a picture that was asked for since then is not pruned
PATIENCE_S = 60.0  # for another process that writes
QUESTIONED = 500  # keys per query


def key_of(facts: Mapping[str, Any]) -> str:
    """The hash of all that decides a picture (or an answer)."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def default_folder() -> Path:
    """Where pictures are kept unless the caller says otherwise: QI2_STORE, else ``.qi2/suites`` of the project."""
    return Path(os.environ.get(FOLDER) or Path(".qi2") / "suites")


def limit_bytes() -> int:
    """How large a store may grow: QI2_STORE_GIB, else 20 GiB."""
    return int(float(os.environ.get(LIMIT, LIMIT_GIB)) * 2**30)


@contextmanager
def opened(folder: Path | None) -> Iterator["Store"]:
    """The store of a folder; without one, an empty one that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="qi2-pictures-") as own, closing(Store(folder or Path(own))) as store:
        yield store


class Store:
    """A folder of pictures and answers; made where there is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        (self.folder / "pictures").mkdir(parents=True, exist_ok=True)
        self.index = sqlite3.connect(self.folder / "index.sqlite", timeout=PATIENCE_S, isolation_level=None)
        try:
            self.index.execute("pragma journal_mode=wal")
            self.index.execute("pragma synchronous=normal")  # a power cut may lose the last batches, a kill nothing
            self.index.executescript(TABLES)
        except sqlite3.DatabaseError as error:
            raise QI2Error(f"{self.folder / 'index.sqlite'} is damaged ({error}); remove it: pictures will be drawn again") from error

    def close(self) -> None:
        """Close the index."""
        self.index.close()

    def path(self, picture: str) -> Path:
        """Where a picture of a hash is."""
        return self.folder / "pictures" / picture[:2] / f"{picture}.png"

    def find(self, keys: Sequence[str]) -> dict[str, str]:
        """{key: picture's hash} of the keys whose picture is there and whole."""
        found: dict[str, str] = {}
        for start in range(0, len(keys), QUESTIONED):
            part = keys[start : start + QUESTIONED]
            found |= dict(self.index.execute(f"select key, picture from pictures where key in ({','.join('?' * len(part))})", part).fetchall())
        whole = {picture for picture in set(found.values()) if self._whole(picture)}
        return {name: picture for name, picture in found.items() if picture in whole}

    def _whole(self, picture: str) -> bool:
        try:
            whole = file_sha256(self.path(picture)) == picture
            os.utime(self.path(picture))  # `prune` removes what was not asked for longest
            return whole
        except OSError:
            return False

    def read(self, picture: str) -> Image.Image:
        """A picture that `find` named; raises QI2Error where it has been damaged since."""
        try:
            data = self.path(picture).read_bytes()
        except OSError as error:
            raise QI2Error(f"{self.path(picture)} has gone ({error}); give the same command again, and it is drawn again") from error
        if hashlib.sha256(data).hexdigest() != picture:
            raise QI2Error(f"{self.path(picture)} is damaged; give the same command again, and it is drawn again")
        return Image.open(io.BytesIO(data))

    def add(self, model: str, facts: Sequence[Mapping[str, Any]], pictures: Sequence[Image.Image], seconds: float) -> list[str]:
        """Keep pictures under the hashes of their facts; ``model`` is for people, ``seconds``: what all of them took. Returns the pictures' hashes."""
        hashes = [self._write(picture) for picture in pictures]
        each = seconds / max(len(pictures), 1)
        rows = [(key_of(fact), name, model, json.dumps(fact, sort_keys=True), each) for fact, name in zip(facts, hashes, strict=True)]
        self._insert("insert or replace into pictures values (?, ?, ?, ?, ?)", rows)
        return hashes

    def _write(self, picture: Image.Image) -> str:
        data = _png(picture)
        name = hashlib.sha256(data).hexdigest()
        if not self._whole(name):
            self._place(self.path(name), data)
        return name

    def _place(self, path: Path, data: bytes) -> None:
        """Write beside the file's place and rename; not flushed to disk, which would cost a tenth of a small model's drawing: `find` sees what is torn."""
        staging = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(exist_ok=True)
            staging.write_bytes(data)
            os.replace(staging, path)
        except OSError as error:
            with suppress(OSError):
                staging.unlink()
            raise QI2Error(f"{path} could not be written ({error}); free some space and give the same command again: what was drawn before is kept") from error

    def answers(self, keys: Sequence[str]) -> dict[str, Any]:
        """{key: answer} of the keys that were answered before."""
        found: dict[str, Any] = {}
        for start in range(0, len(keys), QUESTIONED):
            part = keys[start : start + QUESTIONED]
            rows = self.index.execute(f"select key, answer from answers where key in ({','.join('?' * len(part))})", part)
            found |= {name: json.loads(answer) for name, answer in rows}
        return found

    def keep_answers(self, given: Iterable[tuple[str, str, Any]]) -> None:
        """Keep (key, picture's hash, answer)."""
        self._insert("insert or replace into answers values (?, ?, ?)", [(name, picture, json.dumps(answer)) for name, picture, answer in given])

    def seconds(self, keys: Sequence[str]) -> float:
        """What the pictures of the keys took when they were drawn, drawn now or before."""
        total = 0.0
        for start in range(0, len(keys), QUESTIONED):
            part = keys[start : start + QUESTIONED]
            total += self.index.execute(f"select total(seconds) from pictures where key in ({','.join('?' * len(part))})", part).fetchone()[0]
        return total

    def file_hash(self, path: Path) -> str:
        """SHA-256 of a file, remembered while its size and time of change stay: weights are large."""
        path = Path(path).resolve()
        state = path.stat()
        known = self.index.execute(
            "select hash from files where path = ? and size = ? and changed = ?", (str(path), state.st_size, state.st_mtime_ns)
        ).fetchone()
        if known:
            return str(known[0])
        found = file_sha256(path)
        self._insert("insert or replace into files values (?, ?, ?, ?)", [(str(path), state.st_size, state.st_mtime_ns, found)])
        return found

    def models(self) -> list[tuple[str, int, float]]:
        """(model, pictures, seconds) of all that was drawn, by name: throughput and cost per model."""
        return self.index.execute("select model, count(*), total(seconds) from pictures group by model order by model").fetchall()

    def garbage(self) -> list[Path]:
        """Files that the index does not name: pictures of a run that was killed before they were indexed, and half-written ones."""
        named = {row[0] for row in self.index.execute("select picture from pictures")}
        return [path for path in sorted((self.folder / "pictures").rglob("*")) if path.is_file() and not (path.suffix == ".png" and path.stem in named)]

    def prune(self, most: int) -> tuple[int, int]:
        """Remove files that nothing names, then the pictures that were not asked for longest until ``most`` bytes are left; (files, bytes) that went.

        Safe while others draw: what is younger than an hour stays, and whoever misses a picture draws it again.
        """
        now, known = time.time(), [(path, path.stat()) for path in (self.folder / "pictures").rglob("*.png")]
        size = sum(state.st_size for _, state in known)
        garbage, going = set(self.garbage()), list[Path]()
        for path, state in sorted(known, key=lambda one: (one[0] not in garbage, one[1].st_mtime)):
            if now - state.st_mtime > YOUNG_S and (path in garbage or size > most):
                going.append(path)
                size -= state.st_size
        before = sum(state.st_size for _, state in known)
        for path in going:
            path.unlink(missing_ok=True)
        for table in ("pictures", "answers"):
            self._insert(f"delete from {table} where picture = ?", [(path.stem,) for path in going])
        return len(going), before - size

    def _insert(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        try:
            self.index.execute("begin immediate")
            self.index.executemany(statement, rows)
            self.index.execute("commit")
        except sqlite3.OperationalError as error:
            if self.index.in_transaction:
                self.index.execute("rollback")
            raise QI2Error(f"{self.folder / 'index.sqlite'} could not be written ({error}); free some space, or wait for the other process") from error


def _png(picture: Image.Image) -> bytes:
    """A picture as PNG. A small one is not packed: of 64 px, packing it would take a sixth of a few-step model's time for drawing it."""
    if picture.mode != "RGB" or picture.width * picture.height > SMALL:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=1)  # of 1024 px a fifth of the default's time for 14 % more bytes
        return buffer.getvalue()
    rows = np.zeros((picture.height, 1 + 3 * picture.width), np.uint8)  # every line begins with its filter: 0, none
    rows[:, 1:] = np.asarray(picture).reshape(picture.height, -1)
    size = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in ((b"IHDR", size), (b"IDAT", zlib.compress(rows.tobytes(), 0)), (b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
