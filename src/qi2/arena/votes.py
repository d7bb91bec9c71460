"""The votes: one append-only SQLite file, in which a voter has at most one vote on a pair.

Every vote is one transaction that is on the disk when ``add`` returns (WAL, synchronous=FULL): a killed process or machine loses none that was
acknowledged. Votes say which pictures were seen, by content: those on pictures that have changed since stay in the file and no longer count.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qi2.core.errors import QI2Error
from qi2.core.ledger import Ledger

LEFT, RIGHT, TIE, SKIP = CHOICES = ("left", "right", "tie", "skip")
SCORES = {LEFT: 1.0, RIGHT: 0.0, TIE: 0.5}  # of the left picture; a skip says nothing
PEOPLE = "people"

SCHEMA = """
CREATE TABLE IF NOT EXISTS votes (
    number INTEGER PRIMARY KEY,
    voter TEXT NOT NULL, pair TEXT NOT NULL, choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie', 'skip')),
    by TEXT NOT NULL, suite TEXT NOT NULL, category TEXT NOT NULL, task TEXT NOT NULL, prompt TEXT NOT NULL,
    left_entrant TEXT NOT NULL, left_sha256 TEXT NOT NULL, right_entrant TEXT NOT NULL, right_sha256 TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    UNIQUE (voter, pair)
) STRICT;
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


class Votes(Ledger):
    """The file ``path``, made where there is none, readable for its owner only: it holds the key that signs voters' cookies."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA, "votes")

    def add(self, vote: Vote) -> None:
        """Store a vote for good. Raises AlreadyVoted, and QI2Error where it cannot be written; then nothing has changed."""
        values = asdict(vote)
        statement = f"INSERT INTO votes ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})"
        with self.access() as database:
            try:
                database.execute(statement, values)
            except sqlite3.IntegrityError as error:
                if "UNIQUE" in str(error):
                    raise AlreadyVoted(f"voter {vote.voter} has voted on pair {vote.pair}; the first vote stands") from error
                raise

    def pairs_of(self, voter: str) -> dict[str, str]:
        """{pair: choice} of a voter's votes, skips included."""
        with self.access() as database:
            return {row["pair"]: row["choice"] for row in database.execute("SELECT pair, choice FROM votes WHERE voter = ?", (voter,))}

    def count(self) -> int:
        """All votes of all voters, skips included."""
        with self.access() as database:
            return int(database.execute("SELECT COUNT(*) FROM votes").fetchone()[0])

    def rows(self) -> Iterator[dict[str, Any]]:
        """Everything, in the order of arrival, with ``number`` and ``created`` (UTC)."""
        with self.access() as database:
            found = database.execute("SELECT * FROM votes ORDER BY number").fetchall()
        return (dict(row) for row in found)
