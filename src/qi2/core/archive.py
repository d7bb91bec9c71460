"""A folder of records that name pictures, from which a record can be erased for good, with the pictures that no other one names.

``folder/FILE.sqlite`` and ``folder/pictures/ab/SHA256.png``. An erased record leaves a tombstone: when, why, and a keyed hash of its id, by which it is
refused ever after, and which tells nobody what it was.
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

STRAY_S = 3600.0  # a picture that no record named within this time will be named by none
SCHEMA = """
CREATE TABLE IF NOT EXISTS shown (picture TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (picture, id)) STRICT;
CREATE INDEX IF NOT EXISTS shown_by ON shown (id);
CREATE TABLE IF NOT EXISTS tombstones (
    number INTEGER PRIMARY KEY, mark TEXT NOT NULL UNIQUE, why TEXT NOT NULL, created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE TABLE IF NOT EXISTS erasing (picture TEXT PRIMARY KEY) STRICT;
CREATE TRIGGER IF NOT EXISTS tombstones_stay BEFORE DELETE ON tombstones BEGIN SELECT RAISE(ABORT, 'tombstones stay'); END;
CREATE TRIGGER IF NOT EXISTS tombstones_do_not_change BEFORE UPDATE ON tombstones BEGIN SELECT RAISE(ABORT, 'tombstones stay'); END;
"""


class Archive:
    """Several processes may use a folder at once; a deletion that was cut off is finished when it is opened. A subclass brings its records' table."""

    def __init__(self, folder: Path, file: str, schema: str, holds: str) -> None:
        self.folder = Path(folder)
        self.ledger = Ledger(self.folder / file, SCHEMA + schema, holds)
        self.pictures = Pictures(self.folder / "pictures")
        self._key = self.ledger.fact("key").encode()
        self._sweep()
        self.ledger.scrub()

    def close(self) -> None:
        """Close the file; what was stored is safe without it."""
        self.ledger.close()

    def keep(self, image: Image.Image) -> str:
        """Store a picture's pixels and return the sha256 under which a record names it."""
        return self.pictures.keep(image)

    def picture(self, sha256: str) -> Image.Image:
        """A kept picture. Raises QI2Error where it is missing or damaged."""
        return self.pictures.read(sha256)

    def tombstones(self) -> list[dict[str, Any]]:
        """Number, created and why of every deletion."""
        with self.ledger.access() as database:
            return [dict(row) for row in database.execute("SELECT number, created, why FROM tombstones ORDER BY number")]

    def mark(self, id: str) -> str:
        """What a tombstone keeps of an id."""
        return hmac.new(self._key, id.encode(), hashlib.sha256).hexdigest()

    def buried(self, database: Connection, id: str) -> bool:
        """Whether a record of this id was erased."""
        return database.execute("SELECT 1 FROM tombstones WHERE mark = ?", (self.mark(id),)).fetchone() is not None

    def link(self, database: Connection, id: str, pictures: Iterable[str], what: str) -> None:
        """Say which pictures a new record names. Raises QI2Error where one is not kept; inside a transaction, as `_sweep` removes them inside one."""
        for name in pictures:
            if not self.pictures.has(name):
                raise QI2Error(f"{what} names picture {name[:12]}, which {self.folder} does not have; keep it first")
            database.execute("INSERT OR IGNORE INTO shown VALUES (?, ?)", (name, id))

    def bury(self, database: Connection, id: str, number: int, why: str) -> None:
        """Put a tombstone in a record's place; the caller deletes its own rows in the same transaction, and calls `erase` after it."""
        database.execute("INSERT INTO tombstones (number, mark, why) VALUES (?, ?, ?)", (number, self.mark(id), why))
        database.execute("INSERT OR IGNORE INTO erasing SELECT picture FROM shown WHERE id = ?", (id,))
        database.execute("DELETE FROM shown WHERE id = ?", (id,))

    def erase(self) -> None:
        """Remove the pictures of what was buried, and every trace in the log."""
        self._sweep()
        if not self.ledger.scrub():
            raise QI2Error(f"it is deleted, but another process reads {self.ledger.path} now, whose log still holds it; open the folder again to empty the log")

    def _sweep(self) -> None:
        """Inside a transaction: a picture is either removed before a new record names it, or stays for it."""
        with self.ledger.transaction() as database:
            named = {str(row[0]) for row in database.execute("SELECT DISTINCT picture FROM shown")}
            for (name,) in database.execute("SELECT picture FROM erasing").fetchall():
                if name not in named:
                    self.pictures.erase(name)
            for path in self.pictures.strays(named, STRAY_S):
                path.unlink(missing_ok=True)
            database.execute("DELETE FROM erasing")
