"""One SQLite file that several processes write at once and that keeps what it has acknowledged (WAL, synchronous=FULL), also through a kill or a power cut."""

import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qi2.core.errors import QI2Error

BUSY_S = 30.0
FACTS = "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"


class Ledger:
    """The file ``path``, made where there is none, readable for its owner only; ``holds`` names its content in errors.

    What is deleted from it is overwritten (secure_delete). Raises QI2Error where the file cannot be used.
    """

    def __init__(self, path: Path, schema: str, holds: str) -> None:
        self.path, self._lock = Path(path), threading.RLock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch(mode=0o600, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._database.row_factory = sqlite3.Row
            for setting in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                self._database.execute(f"PRAGMA {setting}")
            self._database.executescript(FACTS + schema)
        except (OSError, sqlite3.Error) as error:
            raise QI2Error(f"{self.path} cannot hold {holds}: {error}; name a writable file that is no other kind of file") from error

    def close(self) -> None:
        """Write the log back and close; what was stored is safe without it."""
        with self._lock:
            self._database.close()

    def fact(self, name: str) -> str:
        """A random text that stays with the file: made at the first call, the same ever after, in every process."""
        with self.access() as database:
            database.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, secrets.token_urlsafe(32)))
            return str(database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0])

    @contextmanager
    def access(self) -> Iterator[sqlite3.Connection]:
        """The connection, to one thread at a time; an error of the file becomes a QI2Error."""
        with self._lock:
            try:
                yield self._database
            except sqlite3.Error as error:
                raise QI2Error(f"{self.path} cannot be read or written: {error}; free some space or make it writable; what was stored stays") from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that the block writes is on the disk when it ends, or nothing is; no other process writes meanwhile."""
        with self.access() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise

    def scrub(self) -> bool:
        """Empty the log, so that nothing deleted is left in it; False where another process reads at this moment and it has to be tried again."""
        with self.access() as database:
            return not database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
