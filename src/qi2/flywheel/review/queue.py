"""The review queue: candidates, decisions and modes in one durable file. Decisions are only added; the last one that was not undone stands.

Modes: ``person`` (the default: somebody looks at each), ``sampled`` (somebody looks at a seeded share; once all of it is decided and enough was accepted,
the rest is accepted, else it waits for people) and ``waived`` (nobody looks). Mode and reviewer stand with every decision.
"""

from collections.abc import Iterable
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from qi2.core.archive import Archive
from qi2.core.errors import QI2Error
from qi2.core.rng import key
from qi2.flywheel.review.candidate import Candidate, check_prompt

ACCEPT, EDIT, REJECT = VERDICTS = ("accept", "edit", "reject")
PERSON, SAMPLED, WAIVED = MODES = ("person", "sampled", "waived")
SAMPLE, WAIVER = "the sample", "nobody"  # who decides where no person looks
UNDO = "undo"
SCHEMA = """
CREATE TABLE IF NOT EXISTS candidates (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, mark TEXT NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS made_for (signal TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (signal, id)) STRICT;
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, verdict TEXT NOT NULL CHECK (verdict IN ('accept', 'edit', 'reject', 'undo')), undone INTEGER,
    prompt TEXT NOT NULL, by TEXT NOT NULL, why TEXT NOT NULL, mode TEXT NOT NULL, created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE INDEX IF NOT EXISTS decisions_of ON decisions (id);
CREATE INDEX IF NOT EXISTS undone_by ON decisions (undone);
CREATE TABLE IF NOT EXISTS modes (
    number INTEGER PRIMARY KEY, mode TEXT NOT NULL, share REAL NOT NULL, threshold REAL NOT NULL, seed INTEGER NOT NULL, by TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE VIEW IF NOT EXISTS standing AS SELECT * FROM decisions AS d WHERE verdict != 'undo'
    AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.verdict = 'undo' AND u.undone = d.number);
CREATE TRIGGER IF NOT EXISTS candidates_stay BEFORE DELETE ON candidates WHEN NOT EXISTS (SELECT 1 FROM tombstones WHERE mark = OLD.mark)
    BEGIN SELECT RAISE(ABORT, 'candidates are erased by ReviewQueue.forget'); END;
CREATE TRIGGER IF NOT EXISTS candidates_do_not_change BEFORE UPDATE ON candidates BEGIN SELECT RAISE(ABORT, 'candidates are only added'); END;
CREATE TRIGGER IF NOT EXISTS decisions_stay BEFORE DELETE ON decisions WHEN EXISTS (SELECT 1 FROM candidates WHERE id = OLD.id)
    BEGIN SELECT RAISE(ABORT, 'decisions are only added'); END;
CREATE TRIGGER IF NOT EXISTS decisions_do_not_change BEFORE UPDATE ON decisions BEGIN SELECT RAISE(ABORT, 'decisions are only added'); END;
"""


class AlreadyDecided(QI2Error):
    """Somebody else was faster; that decision stands until it is undone."""


class ReviewQueue(Archive):
    """A folder of candidates, made where there is none. What ``put``, ``decide`` and ``undo`` acknowledged is on the disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "queue.sqlite", SCHEMA, "candidates for review")

    def put(self, candidates: Iterable[Candidate]) -> int:
        """Queue what is new and was not forgotten, all or nothing, and say how many those were."""
        added = 0
        with self.ledger.transaction() as database:
            for one in candidates:
                if database.execute("SELECT 1 FROM candidates WHERE id = ?", (one.id,)).fetchone() or self.buried(database, one.id):
                    continue
                self.link(database, one.id, one.pictures, f"candidate {one.id}")
                database.execute("INSERT INTO candidates (id, mark, body) VALUES (?, ?, ?)", (one.id, self.mark(one.id), one.to_json()))
                database.executemany("INSERT OR IGNORE INTO made_for VALUES (?, ?)", [(signal, one.id) for signal in one.signals])
                added += 1
            self._settle(database)
        return added

    def pending(self) -> list[Candidate]:
        """Whom a person has to look at, in order: in mode ``sampled`` the sample first, and the rest only where the sample was not good enough."""
        with self.ledger.access() as database:
            waiting, bodies = _waiting(database), "SELECT id, body FROM candidates"
            found = {str(row["id"]): str(row["body"]) for row in database.execute(bodies)}
        return [Candidate.from_json(found[row["id"]]) for row in waiting]

    def waiting(self) -> dict[str, int]:
        """{id: number} of ``pending``, numbers in the order of arrival."""
        with self.ledger.access() as database:
            return {str(row["id"]): int(row["number"]) for row in _waiting(database)}

    def number(self, id: str) -> int:
        """A candidate's place in the order of arrival; 0 where there is none."""
        with self.ledger.access() as database:
            row = database.execute("SELECT number FROM candidates WHERE id = ?", (id,)).fetchone()
        return int(row[0]) if row else 0

    def find(self, id: str) -> Candidate | None:
        """A candidate by its id."""
        with self.ledger.access() as database:
            row = database.execute("SELECT body FROM candidates WHERE id = ?", (id,)).fetchone()
        return Candidate.from_json(row["body"]) if row else None

    def decide(self, id: str, verdict: str, prompt: str = "", by: str = "", why: str = "") -> None:
        """Store a person's decision; ``prompt`` is the new one of an ``edit``.

        Raises AlreadyDecided where one stands, and QI2Error for an unknown candidate or verdict.
        """
        if verdict not in VERDICTS or not by.strip() or len(why) > 4000:
            raise QI2Error(f"a decision is one of {', '.join(VERDICTS)}, says who decided, and why in at most 4000 characters")
        if verdict == EDIT:
            check_prompt(prompt)
        elif prompt:
            raise QI2Error(f"a new prompt comes with the verdict {EDIT}")
        with self.ledger.transaction() as database:
            if not database.execute("SELECT 1 FROM candidates WHERE id = ?", (id,)).fetchone():
                raise QI2Error(f"there is no candidate {id[:80]!r} in {self.folder}")
            standing = database.execute("SELECT by, verdict FROM standing WHERE id = ?", (id,)).fetchone()
            if standing:
                raise AlreadyDecided(f"{standing['by']} has decided ({standing['verdict']}); undo that first")
            _insert(database, id, verdict, prompt, by, why, self._mode(database)["mode"])
            self._settle(database)

    def undo(self, by: str) -> str:
        """Take back a person's last standing decision, and what a sample decided by it; returns the candidate's id, '' where there is none."""
        with self.ledger.transaction() as database:
            row = database.execute("SELECT number, id, mode FROM standing WHERE by = ? ORDER BY number DESC LIMIT 1", (by,)).fetchone()
            if row is None:
                return ""
            self._withdraw(database, row, by)
            if row["mode"] == SAMPLED:
                for other in database.execute("SELECT number, id, mode FROM standing WHERE by = ? AND mode = ?", (SAMPLE, SAMPLED)).fetchall():
                    self._withdraw(database, other, by)
            return str(row["id"])

    def accepted(self) -> list[Candidate]:
        """What may enter the training data: with the edited prompt, and in ``origin["review"]`` verdict, by, mode, why, when and the original prompt."""
        statement = "SELECT c.body, s.* FROM standing AS s JOIN candidates AS c ON c.id = s.id WHERE s.verdict IN ('accept', 'edit') ORDER BY c.number"
        with self.ledger.access() as database:
            found = database.execute(statement).fetchall()
        names = ("verdict", "by", "mode", "why", "created")
        return [Candidate.from_json(row["body"]).reviewed(row["prompt"], {name: row[name] for name in names}) for row in found]

    def decisions(self) -> list[dict[str, Any]]:
        """Everything that was decided and undone, in order."""
        with self.ledger.access() as database:
            return [dict(row) for row in database.execute("SELECT * FROM decisions ORDER BY number")]

    def set_mode(self, mode: str, by: str, share: float = 0.1, threshold: float = 0.95, seed: int = 0) -> None:
        """Who decides from now on what is not decided yet; kept with all earlier ones, and at once applied."""
        if mode not in MODES or not by.strip() or not 0 < share <= 1 or not 0 <= threshold <= 1:
            raise QI2Error(f"a mode is one of {', '.join(MODES)}, set by somebody, with a share in (0, 1] and a threshold in [0, 1]")
        with self.ledger.transaction() as database:
            database.execute("INSERT INTO modes (mode, share, threshold, seed, by) VALUES (?, ?, ?, ?, ?)", (mode, share, threshold, seed, by))
            self._settle(database)

    def progress(self) -> dict[str, Any]:
        """Counts: total, left for people, accepted, edited, rejected; and the mode."""
        with self.ledger.access() as database:
            counts = dict(database.execute("SELECT verdict, COUNT(*) FROM standing GROUP BY verdict").fetchall())
            total, mode = database.execute("SELECT COUNT(*) FROM candidates").fetchone()[0], self._mode(database)
            left = len(_waiting(database))
        done = {name: counts.get(verdict, 0) for name, verdict in (("accepted", ACCEPT), ("edited", EDIT), ("rejected", REJECT))}
        return {"total": total, "left": left, **done, "mode": mode["mode"]}

    def modes(self) -> list[dict[str, Any]]:
        """Every mode that was set, by whom and when."""
        with self.ledger.access() as database:
            return [dict(row) for row in database.execute("SELECT * FROM modes ORDER BY number")]

    def forget(self, signals: Iterable[str], why: str = "its signal was deleted") -> int:
        """Erase the candidates that were made for these signals, with decisions and pictures; returns how many."""
        with self.ledger.transaction() as database:
            ids = {str(row["id"]) for signal in signals for row in database.execute("SELECT id FROM made_for WHERE signal = ?", (signal,))}
            number = database.execute("SELECT IFNULL(MAX(number), 0) FROM tombstones").fetchone()[0]
            for k, id in enumerate(sorted(ids), start=1):
                self.bury(database, id, number + k, why)
                for table in ("candidates", "made_for", "decisions"):
                    database.execute(f"DELETE FROM {table} WHERE id = ?", (id,))
        self.erase()
        return len(ids)

    def _mode(self, database: Connection) -> dict[str, Any]:
        row = database.execute("SELECT * FROM modes ORDER BY number DESC LIMIT 1").fetchone()
        return dict(row) if row else {"mode": PERSON, "share": 1.0, "threshold": 1.0, "seed": 0, "by": ""}

    def _settle(self, database: Connection) -> None:
        """Decide what no person has to look at any more."""
        mode = self._mode(database)
        if mode["mode"] == WAIVED:
            for row in _undecided(database):
                _insert(database, row["id"], ACCEPT, "", WAIVER, f"review waived by {mode['by']}", WAIVED)
        elif mode["mode"] == SAMPLED:
            sample = _sample(database, mode)
            verdicts = dict(database.execute("SELECT id, verdict FROM standing").fetchall())
            decided = [verdicts[id] for id in sample if id in verdicts]
            share = sum(verdict != REJECT for verdict in decided) / len(decided) if decided else 0.0
            if decided and len(decided) == len(sample) and share >= mode["threshold"]:
                for row in _undecided(database):
                    why = f"of a sample of {len(decided)}, {share:.3f} were accepted (threshold {mode['threshold']:g}, seed {mode['seed']})"
                    _insert(database, row["id"], ACCEPT, "", SAMPLE, why, SAMPLED)

    def _withdraw(self, database: Connection, row: Any, by: str) -> None:
        statement = "INSERT INTO decisions (id, verdict, undone, prompt, by, why, mode) VALUES (?, ?, ?, '', ?, '', ?)"
        database.execute(statement, (row["id"], UNDO, row["number"], by, row["mode"]))


def _insert(database: Connection, id: str, verdict: str, prompt: str, by: str, why: str, mode: str) -> None:
    statement = "INSERT INTO decisions (id, verdict, prompt, by, why, mode) VALUES (?, ?, ?, ?, ?, ?)"
    database.execute(statement, (id, verdict, prompt, by, why, mode))


def _undecided(database: Connection) -> list[Any]:
    return database.execute("SELECT number, id FROM candidates WHERE id NOT IN (SELECT id FROM standing) ORDER BY number").fetchall()


def _waiting(database: Connection) -> list[Any]:
    """The undecided ones that a person has to look at."""
    found, mode = _undecided(database), database.execute("SELECT * FROM modes ORDER BY number DESC LIMIT 1").fetchone()
    if mode is None or mode["mode"] != SAMPLED:
        return found
    sample = set(_sample(database, dict(mode)))
    return [row for row in found if row["id"] in sample] or found


def _sample(database: Connection, mode: dict[str, Any]) -> list[str]:
    """The candidates that a person looks at: each by a draw of its own id, so that later ones change nothing; at least one."""
    draws = {str(row[0]): key(mode["seed"], f"flywheel/review/{row[0]}") / 2**63 for row in database.execute("SELECT id FROM candidates")}
    chosen = [id for id, draw in draws.items() if draw < mode["share"]]
    return chosen or sorted(draws, key=lambda id: (draws[id], id))[:1]
