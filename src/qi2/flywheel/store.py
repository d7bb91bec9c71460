"""The signals' store: append-only and versioned, with pictures by hash, consent, and deletion that erases.

``folder/signals.sqlite`` and ``folder/pictures/ab/SHA256.png``. What ``add`` acknowledged is on the disk. Every signal and every deletion has the next
number; a version is the last number that counts. What was deleted is gone from every version: a round that was made from it has another digest now.
A deletion leaves a tombstone: when, why, and a keyed hash that refuses the same signal for good but tells nobody what it was.
"""

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.ledger import Ledger
from qi2.core.pictures import Pictures
from qi2.flywheel.signals import Signal

STRAY_S = 3600.0  # a picture that no signal named within this time will be named by none
SCHEMA = """
CREATE TABLE IF NOT EXISTS signals (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, mark TEXT NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE INDEX IF NOT EXISTS of_subject ON signals (subject);
CREATE TABLE IF NOT EXISTS shown (picture TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (picture, id)) STRICT;
CREATE INDEX IF NOT EXISTS shown_by ON shown (id);
CREATE TABLE IF NOT EXISTS tombstones (
    number INTEGER PRIMARY KEY, mark TEXT NOT NULL UNIQUE, why TEXT NOT NULL, created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE TABLE IF NOT EXISTS erasing (picture TEXT PRIMARY KEY) STRICT;
CREATE TRIGGER IF NOT EXISTS signals_stay BEFORE DELETE ON signals WHEN NOT EXISTS (SELECT 1 FROM tombstones WHERE mark = OLD.mark)
    BEGIN SELECT RAISE(ABORT, 'signals are deleted by SignalStore.delete'); END;
CREATE TRIGGER IF NOT EXISTS signals_do_not_change BEFORE UPDATE ON signals BEGIN SELECT RAISE(ABORT, 'signals are only added'); END;
CREATE TRIGGER IF NOT EXISTS tombstones_stay BEFORE DELETE ON tombstones BEGIN SELECT RAISE(ABORT, 'tombstones stay'); END;
CREATE TRIGGER IF NOT EXISTS tombstones_do_not_change BEFORE UPDATE ON tombstones BEGIN SELECT RAISE(ABORT, 'tombstones stay'); END;
"""


class SignalStore:
    """A folder of signals; made where there is none. Several processes may use it at once; an unfinished deletion is finished when it is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.ledger = Ledger(self.folder / "signals.sqlite", SCHEMA, "signals")
        self.pictures = Pictures(self.folder / "pictures")
        self._key, self._scrubbed = self.ledger.fact("key").encode(), False
        self._erase()

    def close(self) -> None:
        """Close the file; what was added is safe without it."""
        self.ledger.close()

    def add(self, signals: Iterable[Signal]) -> int:
        """Store what is new and was not deleted, all or nothing, and say how many those were; on the disk when this returns.

        Raises QI2Error where a signal names a picture that is not kept, or nothing can be written; then nothing has changed.
        """
        added = 0
        with self.ledger.transaction() as database:
            number = _version(database)
            for signal in signals:
                mark = self._mark(signal.id)
                known = "SELECT EXISTS (SELECT 1 FROM signals WHERE id = ?) OR EXISTS (SELECT 1 FROM tombstones WHERE mark = ?)"
                if database.execute(known, (signal.id, mark)).fetchone()[0]:
                    continue
                self._check_pictures(signal)
                added += 1
                row = (number + added, signal.id, mark, signal.subject, signal.to_json())
                database.execute("INSERT INTO signals (number, id, mark, subject, body) VALUES (?, ?, ?, ?, ?)", row)
                database.executemany("INSERT OR IGNORE INTO shown VALUES (?, ?)", [(name, signal.id) for name in signal.pictures])
        return added

    def keep(self, image: Image.Image) -> str:
        """Store a picture's pixels and return the sha256 under which a signal names it."""
        return self.pictures.keep(image)

    def picture(self, sha256: str) -> Image.Image:
        """A kept picture. Raises QI2Error where it is missing or damaged."""
        return self.pictures.read(sha256)

    def all(self, version: int | None = None) -> list[Signal]:
        """The signals as of a version, in the order of arrival, without what was deleted since."""
        return [Signal.from_json(row["body"]) for row in self.rows(version)]

    def rows(self, version: int | None = None) -> list[dict[str, Any]]:
        """Like ``all``, with number, id, created (UTC) and body (JSON)."""
        with self.ledger.access() as database:
            known = _version(database)
            if version is not None and not 0 <= version <= known:
                raise QI2Error(f"{self.folder} has versions 0 to {known}, not {version}")
            found = database.execute(
                "SELECT number, id, created, body FROM signals WHERE number <= ? ORDER BY number", (known if version is None else version,)
            )
            return [dict(row) for row in found]

    def find(self, id: str) -> Signal | None:
        """A signal by its id; None where there is none, or it was deleted."""
        with self.ledger.access() as database:
            row = database.execute("SELECT body FROM signals WHERE id = ?", (id,)).fetchone()
        return Signal.from_json(row["body"]) if row else None

    def deleted(self, id: str) -> bool:
        """Whether a signal of this id was deleted, so that it is taken no more."""
        with self.ledger.access() as database:
            return database.execute("SELECT 1 FROM tombstones WHERE mark = ?", (self._mark(id),)).fetchone() is not None

    @property
    def version(self) -> int:
        """The last number: of a signal or of a deletion; 0 for an empty store."""
        with self.ledger.access() as database:
            return _version(database)

    def digest(self, version: int | None = None) -> str:
        """SHA-256 over the ids of ``all(version)``: what a round was made from."""
        return hashlib.sha256("\n".join(row["id"] for row in self.rows(version)).encode()).hexdigest()

    def tombstones(self) -> list[dict[str, Any]]:
        """Number, created and why of every deletion."""
        with self.ledger.access() as database:
            return [dict(row) for row in database.execute("SELECT number, created, why FROM tombstones ORDER BY number")]

    def ids_of(self, subject: str) -> list[str]:
        """The ids of all that a person gave, for whoever has made something from them."""
        with self.ledger.access() as database:
            return [str(row[0]) for row in database.execute("SELECT id FROM signals WHERE subject = ? AND subject != '' ORDER BY number", (subject,))]

    def delete(self, *, subject: str = "", id: str = "", why: str) -> int:
        """Erase a person's signals, or one, with the pictures that no other signal names; returns how many. Kill it, and the next opening finishes it."""
        if bool(subject) == bool(id) or not why.strip():
            raise QI2Error("a deletion names a subject or an id, one of them, and says why")
        column, value = ("subject", subject) if subject else ("id", id)
        self._scrubbed = False
        with self.ledger.transaction() as database:
            found = database.execute(f"SELECT id, mark FROM signals WHERE {column} = ? ORDER BY number", (value,)).fetchall()
            number = _version(database)
            for k, row in enumerate(found, start=1):
                database.execute("INSERT INTO tombstones (number, mark, why) VALUES (?, ?, ?)", (number + k, row["mark"], why))
                database.execute("INSERT OR IGNORE INTO erasing SELECT picture FROM shown WHERE id = ?", (row["id"],))
                database.execute("DELETE FROM shown WHERE id = ?", (row["id"],))
                database.execute("DELETE FROM signals WHERE id = ?", (row["id"],))
        self._erase()
        if not self._scrubbed:
            raise QI2Error(f"{len(found)} signals are deleted, but another process reads {self.ledger.path} now: give the same command again to empty its log")
        return len(found)

    def _erase(self) -> None:
        """Remove the files of deleted pictures and of strays, then every trace in the log.

        Inside a transaction, as `add` looks at the files inside one: a picture is either removed before a new signal names it, or stays for it.
        """
        with self.ledger.transaction() as database:
            named = {str(row[0]) for row in database.execute("SELECT DISTINCT picture FROM shown")}
            for (name,) in database.execute("SELECT picture FROM erasing").fetchall():
                if name not in named:
                    self.pictures.erase(name)
            for path in self.pictures.strays(named, STRAY_S):
                path.unlink(missing_ok=True)
            erased = database.execute("DELETE FROM erasing").rowcount
        if erased or not self._scrubbed:
            self._scrubbed = self.ledger.scrub()

    def _check_pictures(self, signal: Signal) -> None:
        for name in signal.pictures:
            if not self.pictures.has(name):
                raise QI2Error(f"the signal on {signal.prompt[:80]!r} names picture {name[:12]}, which {self.folder} does not have; keep it first")

    def _mark(self, id: str) -> str:
        return hmac.new(self._key, id.encode(), hashlib.sha256).hexdigest()


def _version(database: Connection) -> int:
    return int(database.execute("SELECT MAX((SELECT IFNULL(MAX(number), 0) FROM signals), (SELECT IFNULL(MAX(number), 0) FROM tombstones))").fetchone()[0])
