"""The review queue of a scale: candidates, decisions and modes in one durable file. Decisions are only added; the last one that was not undone stands.

Candidates come in batches, one of every round, and each batch has its own mode: ``person`` (the default: somebody looks at each), ``sampled`` (somebody looks
at a seeded share of the batch; once people have decided all of it and accepted enough, the rest is accepted, else it waits for people) and ``waived`` (nobody
looks). Mode and reviewer stand with every decision.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from qi2.core.archive import Archive
from qi2.core.errors import QI2Error
from qi2.core.rng import key
from qi2.flywheel.review.candidate import Candidate, check_prompt

ACCEPT, EDIT, REJECT = VERDICTS = ("accept", "edit", "reject")
PERSON, SAMPLED, WAIVED = MODES = ("person", "sampled", "waived")
SAMPLE, WAIVER = NO_PERSON = ("the sample", "nobody")  # who decides where no person looks
UNDO = "undo"
SCHEMA = """
CREATE TABLE IF NOT EXISTS candidates (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, mark TEXT NOT NULL, body TEXT NOT NULL,
    batch TEXT NOT NULL DEFAULT '') STRICT;
CREATE TABLE IF NOT EXISTS made_for (signal TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (signal, id)) STRICT;
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, verdict TEXT NOT NULL CHECK (verdict IN ('accept', 'edit', 'reject', 'undo')), undone INTEGER,
    prompt TEXT NOT NULL, by TEXT NOT NULL, why TEXT NOT NULL, mode TEXT NOT NULL, created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE INDEX IF NOT EXISTS decisions_of ON decisions (id);
CREATE INDEX IF NOT EXISTS undone_by ON decisions (undone);
CREATE TABLE IF NOT EXISTS modes (
    number INTEGER PRIMARY KEY, mode TEXT NOT NULL, share REAL NOT NULL, threshold REAL NOT NULL, seed INTEGER NOT NULL, by TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), batch TEXT NOT NULL DEFAULT ''
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


@dataclass(frozen=True)
class Mode:
    """Who decides about a batch, as ``by`` has set it. Raises QI2Error where it is none."""

    mode: str
    by: str
    share: float = 0.1  # of sampled: how many a person looks at
    threshold: float = 0.95  # of sampled: the acceptance from which the rest is accepted
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES or not self.by.strip() or not 0 < self.share <= 1 or not 0 <= self.threshold <= 1:
            raise QI2Error(f"a mode is one of {', '.join(MODES)}, set by somebody, with a share in (0, 1] and a threshold in [0, 1]")


class ReviewQueue(Archive):
    """A folder of candidates, made where there is none. What ``put``, ``decide`` and ``undo`` acknowledged is on the disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "queue.sqlite", SCHEMA, "candidates for review")
        self._add_batches()

    def _add_batches(self) -> None:
        """A file of the time before batches keeps all it has, as one batch with the mode that was set last."""
        with self.ledger.transaction() as database:
            for table in ("candidates", "modes"):
                if "batch" not in {row["name"] for row in database.execute(f"PRAGMA table_info({table})")}:
                    database.execute(f"ALTER TABLE {table} ADD COLUMN batch TEXT NOT NULL DEFAULT ''")

    def put(self, candidates: Iterable[Candidate], batch: str = "", mode: Mode | None = None) -> int:
        """Queue what is new and was not forgotten, with the mode of its batch, all or nothing, and say how many those were.

        What is queued already stays in its batch. Without a ``mode`` the batch has the one that it had; a new batch waits for people.
        """
        added = 0
        with self.ledger.transaction() as database:
            if mode is not None:
                _set_mode(database, batch, mode)
            for one in candidates:
                if database.execute("SELECT 1 FROM candidates WHERE id = ?", (one.id,)).fetchone() or self.buried(database, one.id):
                    continue
                self.link(database, one.id, one.pictures, f"candidate {one.id}")
                database.execute("INSERT INTO candidates (id, mark, body, batch) VALUES (?, ?, ?, ?)", (one.id, self.mark(one.id), one.to_json(), batch))
                database.executemany("INSERT OR IGNORE INTO made_for VALUES (?, ?)", [(signal, one.id) for signal in one.signals])
                added += 1
            _settle(database, batch)
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

    def batch(self, id: str) -> dict[str, str]:
        """{"batch", "mode"}: with which others a candidate came, and who decides about them."""
        with self.ledger.access() as database:
            row = database.execute("SELECT batch FROM candidates WHERE id = ?", (id,)).fetchone()
            return {"batch": str(row["batch"]), "mode": _mode(database, row["batch"]).mode} if row else {}

    def find(self, id: str) -> Candidate | None:
        """A candidate by its id."""
        with self.ledger.access() as database:
            row = database.execute("SELECT body FROM candidates WHERE id = ?", (id,)).fetchone()
        return Candidate.from_json(row["body"]) if row else None

    def decide(self, id: str, verdict: str, prompt: str = "", by: str = "", why: str = "") -> None:
        """Store a person's decision; ``prompt`` is the new one of an ``edit``.

        Raises AlreadyDecided where one stands, and QI2Error for an unknown candidate or verdict.
        """
        if verdict not in VERDICTS or not by.strip() or by in NO_PERSON or len(why) > 4000:
            raise QI2Error(f"a decision is one of {', '.join(VERDICTS)}, says who decided, a person, and why in at most 4000 characters")
        if verdict == EDIT:
            check_prompt(prompt)
        elif prompt:
            raise QI2Error(f"a new prompt comes with the verdict {EDIT}")
        with self.ledger.transaction() as database:
            row = database.execute("SELECT batch FROM candidates WHERE id = ?", (id,)).fetchone()
            if not row:
                raise QI2Error(f"there is no candidate {id[:80]!r} in {self.folder}")
            standing = database.execute("SELECT by, verdict FROM standing WHERE id = ?", (id,)).fetchone()
            if standing:
                raise AlreadyDecided(f"{standing['by']} has decided ({standing['verdict']}); undo that first")
            _insert(database, id, verdict, prompt, by, why, _mode(database, row["batch"]).mode)
            _settle(database, row["batch"])

    def undo(self, by: str) -> str:
        """Take back a person's last standing decision, and what a sample of its batch decided by it; returns the candidate's id, '' where there is none."""
        standing = "SELECT s.number, s.id, s.mode, c.batch FROM standing AS s JOIN candidates AS c ON c.id = s.id WHERE s.by = ?"
        with self.ledger.transaction() as database:
            row = database.execute(f"{standing} ORDER BY s.number DESC LIMIT 1", (by,)).fetchone()
            if row is None:
                return ""
            for one in (row, *database.execute(f"{standing} AND c.batch = ?", (SAMPLE, row["batch"])).fetchall()):
                statement = "INSERT INTO decisions (id, verdict, undone, prompt, by, why, mode) VALUES (?, ?, ?, '', ?, '', ?)"
                database.execute(statement, (one["id"], UNDO, one["number"], by, one["mode"]))
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

    def set_mode(self, mode: str, by: str, share: float = 0.1, threshold: float = 0.95, seed: int = 0) -> list[str]:
        """Who decides what is not decided yet, in the batches that have some now, which are returned; kept with all earlier modes, and at once applied."""
        wanted = Mode(mode, by, share, threshold, seed)
        with self.ledger.transaction() as database:
            batches = _open(database)
            for batch in batches:
                _set_mode(database, batch, wanted)
                _settle(database, batch)
        return batches

    def progress(self) -> dict[str, Any]:
        """Counts: total, left for people, accepted, edited, rejected; and the modes of the batches that wait, or of the last one."""
        with self.ledger.access() as database:
            counts = dict(database.execute("SELECT verdict, COUNT(*) FROM standing GROUP BY verdict").fetchall())
            total, left = database.execute("SELECT COUNT(*) FROM candidates").fetchone()[0], len(_waiting(database))
            last = database.execute("SELECT batch FROM candidates ORDER BY number DESC LIMIT 1").fetchall()
            modes = dict.fromkeys(_mode(database, batch).mode for batch in _open(database) or [row["batch"] for row in last])
        done = {name: counts.get(verdict, 0) for name, verdict in (("accepted", ACCEPT), ("edited", EDIT), ("rejected", REJECT))}
        return {"total": total, "left": left, **done, "mode": ", ".join(modes) or PERSON}

    def modes(self) -> list[dict[str, Any]]:
        """Every mode that was set, of which batch, by whom and when."""
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


def queue_of(home: Path, scale: str) -> ReviewQueue:
    """The queue of a scale's rounds, made where there is none. Raises QI2Error where ``home`` holds one of an older version, which all scales shared."""
    home = Path(home)
    if (home / "queue" / "queue.sqlite").exists():
        raise QI2Error(
            f"{home / 'queue'} is a queue of an older version, which all scales shared; give it with all its decisions to the scale that its candidates were "
            f"made for: mv {home / 'queue'} {home / scale / 'queue'}"
        )
    return ReviewQueue(home / scale / "queue")


def _mode(database: Connection, batch: str) -> Mode:
    row = database.execute("SELECT mode, by, share, threshold, seed FROM modes WHERE batch = ? ORDER BY number DESC LIMIT 1", (batch,)).fetchone()
    return Mode(*row) if row else Mode(PERSON, "default")


def _set_mode(database: Connection, batch: str, mode: Mode) -> None:
    database.execute("INSERT INTO modes (mode, by, share, threshold, seed, batch) VALUES (?, ?, ?, ?, ?, ?)", (*astuple(mode), batch))


def _settle(database: Connection, batch: str) -> None:
    """Decide what no person has to look at any more of a batch."""
    mode = _mode(database, batch)
    left = [] if mode.mode == PERSON else [row["id"] for row in _undecided(database) if row["batch"] == batch]
    if mode.mode == WAIVED:
        for id in left:
            _insert(database, id, ACCEPT, "", WAIVER, f"review waived by {mode.by}", WAIVED)
    elif mode.mode == SAMPLED and left:
        verdicts = dict(database.execute("SELECT id, verdict FROM standing").fetchall())
        decided = [verdicts.get(id) for id in _sample(database, batch, mode)]
        share = sum(verdict in (ACCEPT, EDIT) for verdict in decided) / len(decided)
        if None not in decided and share >= mode.threshold:
            for id in left:
                why = f"of a sample of {len(decided)}, {share:.3f} were accepted (threshold {mode.threshold:g}, seed {mode.seed})"
                _insert(database, id, ACCEPT, "", SAMPLE, why, SAMPLED)


def _insert(database: Connection, id: str, verdict: str, prompt: str, by: str, why: str, mode: str) -> None:
    statement = "INSERT INTO decisions (id, verdict, prompt, by, why, mode) VALUES (?, ?, ?, ?, ?, ?)"
    database.execute(statement, (id, verdict, prompt, by, why, mode))


def _undecided(database: Connection) -> list[Any]:
    return database.execute("SELECT number, id, batch FROM candidates WHERE id NOT IN (SELECT id FROM standing) ORDER BY number").fetchall()


def _open(database: Connection) -> list[str]:
    """The batches that have something undecided, in the order of arrival."""
    return list(dict.fromkeys(str(row["batch"]) for row in _undecided(database)))


def _waiting(database: Connection) -> list[Any]:
    """The undecided ones that a person has to look at: of a sampled batch its sample, as long as some of that is undecided."""
    found = _undecided(database)
    for batch in dict.fromkeys(row["batch"] for row in found):
        if (mode := _mode(database, batch)).mode == SAMPLED:
            sample = set(_sample(database, batch, mode))
            if any(row["id"] in sample for row in found):
                found = [row for row in found if row["batch"] != batch or row["id"] in sample]
    return found


def _sample(database: Connection, batch: str, mode: Mode) -> list[str]:
    """Which of a batch a person looks at, leaving out what was decided without one: each by a draw of its own id, so that later ones change nothing."""
    rows = database.execute("SELECT id FROM candidates WHERE batch = ? AND id NOT IN (SELECT id FROM standing WHERE by IN (?, ?))", (batch, *NO_PERSON))
    draws = {str(row[0]): key(mode.seed, f"flywheel/review/{row[0]}") / 2**63 for row in rows}
    chosen = [id for id, draw in draws.items() if draw < mode.share]
    return chosen or sorted(draws, key=lambda id: (draws[id], id))[:1]
