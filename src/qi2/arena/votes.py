"""The votes: one append-only SQLite file, in which a voter has at most one vote on a pair.

Every vote is one transaction that is on the disk when ``add`` returns (WAL, synchronous=FULL): a killed process or machine loses none that was
acknowledged. Votes say which pictures were seen, by content: those on pictures that have changed since stay in the file and no longer count.
"""

import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qi2.core.errors import QI2Error

LEFT, RIGHT, TIE, SKIP = CHOICES = ("left", "right", "tie", "skip")
SCORES = {LEFT: 1.0, RIGHT: 0.0, TIE: 0.5}  # of the left picture; a skip says nothing
PEOPLE = "people"
BUSY_S = 30.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS votes (
    number INTEGER PRIMARY KEY,
    voter TEXT NOT NULL, pair TEXT NOT NULL, choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie', 'skip')),
    by TEXT NOT NULL, suite TEXT NOT NULL, category TEXT NOT NULL, task TEXT NOT NULL, prompt TEXT NOT NULL,
    left_entrant TEXT NOT NULL, left_sha256 TEXT NOT NULL, right_entrant TEXT NOT NULL, right_sha256 TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    UNIQUE (voter, pair)
) STRICT;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS votes_stay BEFORE DELETE ON votes BEGIN SELECT RAISE(ABORT, 'votes are only added'); END;
CREATE TRIGGER IF NOT EXISTS votes_do_not_change BEFORE UPDATE ON votes BEGIN SELECT RAISE(ABORT, 'votes are only added'); END;
"""


class AlreadyVoted(QI2Error):
    """This voter has voted on this pair; the first vote stands."""


@dataclass(frozen=True)
class Vote:
    """One choice between two pictures as they were shown. ``by`` is ``people`` or the judge's name, ``voter`` an opaque id."""

    voter: str
    pair: str
    choice: str
    by: str
    suite: str
    category: str
    task: str
    prompt: str
    left_entrant: str
    left_sha256: str
    right_entrant: str
    right_sha256: str


class Votes:
    """The file ``path``, made where there is none, readable for its owner only: it holds the key that signs voters' cookies."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = Path(path), threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch(mode=0o600, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._database.row_factory = sqlite3.Row
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise QI2Error(f"{self.path} cannot hold votes: {error}; name a writable file that is no other kind of file") from error

    def close(self) -> None:
        """Write the log back and close; votes are safe without it."""
        with self._lock:
            self._database.close()

    def add(self, vote: Vote) -> None:
        """Store a vote for good. Raises AlreadyVoted, and QI2Error where it cannot be written; then nothing has changed."""
        values = asdict(vote)
        statement = f"INSERT INTO votes ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})"
        with self._access() as database:
            try:
                database.execute(statement, values)
            except sqlite3.IntegrityError as error:
                if "UNIQUE" in str(error):
                    raise AlreadyVoted(f"voter {vote.voter} has voted on pair {vote.pair}; the first vote stands") from error
                raise

    def pairs_of(self, voter: str) -> dict[str, str]:
        """{pair: choice} of a voter's votes, skips included."""
        with self._access() as database:
            return {row["pair"]: row["choice"] for row in database.execute("SELECT pair, choice FROM votes WHERE voter = ?", (voter,))}

    def count(self) -> int:
        """All votes of all voters, skips included."""
        with self._access() as database:
            return int(database.execute("SELECT COUNT(*) FROM votes").fetchone()[0])

    def rows(self) -> Iterator[dict[str, Any]]:
        """Everything, in the order of arrival, with ``number`` and ``created`` (UTC)."""
        with self._access() as database:
            found = database.execute("SELECT * FROM votes ORDER BY number").fetchall()
        return (dict(row) for row in found)

    def fact(self, name: str) -> str:
        """A random text that stays with the file: made at the first call, the same ever after, in every process."""
        with self._access() as database:
            database.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, secrets.token_urlsafe(32)))
            return str(database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0])

    @contextmanager
    def _access(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._database
            except sqlite3.Error as error:
                raise QI2Error(f"{self.path} cannot be read or written: {error}; free some space or make it writable; what was stored stays") from error
