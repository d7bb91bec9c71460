"""The signals' store: append-only and versioned, with pictures by hash, consent, and deletion that erases.

``folder/signals.sqlite`` and ``folder/pictures/ab/SHA256.png``. What ``add`` acknowledged is on the disk. Every signal, every deletion and every change of
consent has the next number; a version is the last number that counts. A changed consent holds from its version on, and earlier ones stay what they were; what
was deleted is gone from every version: a round that was made from it has another digest now.
A deletion leaves a tombstone: when, why, and a keyed hash that refuses the same signal for good but tells nobody what it was.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from qi2.core.archive import Archive
from qi2.core.errors import QI2Error
from qi2.flywheel.signals import DIAGNOSIS, OWN, TRAINING, Signal

SCHEMA = """
CREATE TABLE IF NOT EXISTS signals (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, mark TEXT NOT NULL, subject TEXT NOT NULL,
    praise INTEGER NOT NULL, body TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE INDEX IF NOT EXISTS of_subject ON signals (subject);
CREATE TRIGGER IF NOT EXISTS signals_stay BEFORE DELETE ON signals WHEN NOT EXISTS (SELECT 1 FROM tombstones WHERE mark = OLD.mark)
    BEGIN SELECT RAISE(ABORT, 'signals are deleted by SignalStore.delete'); END;
CREATE TRIGGER IF NOT EXISTS signals_do_not_change BEFORE UPDATE ON signals BEGIN SELECT RAISE(ABORT, 'signals are only added'); END;
CREATE TABLE IF NOT EXISTS consents (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, mark TEXT NOT NULL, consent TEXT NOT NULL, why TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE INDEX IF NOT EXISTS consent_of ON consents (id, number);
CREATE TRIGGER IF NOT EXISTS consents_stay BEFORE DELETE ON consents WHEN NOT EXISTS (SELECT 1 FROM tombstones WHERE mark = OLD.mark)
    BEGIN SELECT RAISE(ABORT, 'consents go with their signal'); END;
CREATE TRIGGER IF NOT EXISTS consents_do_not_change BEFORE UPDATE ON consents BEGIN SELECT RAISE(ABORT, 'consents are only added'); END;
"""
CONSENT = "(SELECT consent FROM consents c WHERE c.id = s.id AND c.number <= :version ORDER BY c.number DESC LIMIT 1) AS changed"
LAST = " UNION ALL ".join(f"SELECT IFNULL(MAX(number), 0) AS n FROM {table}" for table in ("signals", "tombstones", "consents"))


class SignalStore(Archive):
    """A folder of signals; made where there is none. Several processes may use it at once; an unfinished deletion is finished when it is opened."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "signals.sqlite", SCHEMA, "signals")

    def add(self, signals: Iterable[Signal]) -> int:
        """Store what is new and was not deleted, all or nothing, and say how many those were; on the disk when this returns.

        Raises QI2Error where a signal names a picture that is not kept, or nothing can be written; then nothing has changed.
        """
        added = 0
        with self.ledger.transaction() as database:
            number = _version(database)
            for signal in signals:
                known = database.execute("SELECT 1 FROM signals WHERE id = ?", (signal.id,)).fetchone()
                if known or self.buried(database, signal.id):
                    continue
                self.link(database, signal.id, signal.pictures, f"the signal on {signal.prompt[:80]!r}")
                added, mark = added + 1, self.mark(signal.id)
                row = (number + added, signal.id, mark, signal.subject, signal.praise, signal.to_json())
                database.execute("INSERT INTO signals (number, id, mark, subject, praise, body) VALUES (?, ?, ?, ?, ?, ?)", row)
        return added

    def all(self, version: int | None = None) -> list[Signal]:
        """The failures as of a version, in the order of arrival, without what was deleted since, and without praise."""
        return [_signal(row) for row in self.rows(version)]

    def praised(self, version: int | None = None) -> list[Signal]:
        """What people called good: nothing to repair, but nothing to break either."""
        return [_signal(row) for row in self.rows(version, praise=True)]

    def rows(self, version: int | None = None, praise: bool = False) -> list[dict[str, Any]]:
        """Like ``all`` or ``praised``, with number, id, created (UTC), body (JSON) and ``changed``: the consent where it is not the first."""
        with self.ledger.access() as database:
            known = _version(database)
            if version is not None and not 0 <= version <= known:
                raise QI2Error(f"{self.folder} has versions 0 to {known}, not {version}")
            statement = f"SELECT number, id, created, body, {CONSENT} FROM signals s WHERE number <= :version AND praise = :praise ORDER BY number"
            found = database.execute(statement, {"version": known if version is None else version, "praise": praise})
            return [_as_of_now(dict(row)) for row in found]

    def find(self, id: str) -> Signal | None:
        """A signal by its id; None where there is none, or it was deleted."""
        with self.ledger.access() as database:
            row = database.execute(f"SELECT id, body, {CONSENT} FROM signals s WHERE id = :id", {"id": id, "version": _version(database)}).fetchone()
        return _signal(_as_of_now(dict(row))) if row else None

    def deleted(self, id: str) -> bool:
        """Whether a signal of this id was deleted, so that it is taken no more."""
        with self.ledger.access() as database:
            return self.buried(database, id)

    @property
    def version(self) -> int:
        """The last number: of a signal, a deletion or a changed consent; 0 for an empty store."""
        with self.ledger.access() as database:
            return _version(database)

    def digest(self, version: int | None = None) -> str:
        """SHA-256 over the ids of ``all(version)``, and over their consents where those were changed: what a round was made from."""
        lines = [f"{row['id']} {row['changed']}" if row["changed"] else str(row["id"]) for row in self.rows(version)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def ids_of(self, subject: str) -> list[str]:
        """The ids of all that a person gave, for whoever has made something from them."""
        with self.ledger.access() as database:
            return [str(row[0]) for row in database.execute("SELECT id FROM signals WHERE subject = ? AND subject != '' ORDER BY number", (subject,))]

    def consent(self, given: str, *, subject: str = "", id: str = "", why: str) -> int:
        """Change what a person allows (`training`, `diagnosis`) for all that it gave, or for one signal, from now on; returns for how many that is a change.

        On the disk when this returns. Raises QI2Error for another consent, and where the project's own signal is named.
        """
        if bool(subject) == bool(id) or not why.strip():
            raise QI2Error("a change of consent names a subject or an id, one of them, and says why")
        if given not in (TRAINING, DIAGNOSIS):
            raise QI2Error(f"a person consents to {TRAINING} or to {DIAGNOSIS}, not to {given[:80]!r}")
        column, value = ("subject", subject) if subject else ("id", id)
        with self.ledger.transaction() as database:
            number, changed = _version(database), 0
            query = f"SELECT id, mark, body, {CONSENT} FROM signals s WHERE {column} = :value ORDER BY number"
            for row in database.execute(query, {"value": value, "version": number}).fetchall():
                before = row["changed"] or Signal.from_json(row["body"]).consent
                if before == OWN:
                    raise QI2Error(f"signal {row['id'][:12]} is the project's own, not a person's; there is no consent to change")
                if before != given:
                    changed += 1
                    values = (number + changed, row["id"], row["mark"], given, why)
                    database.execute("INSERT INTO consents (number, id, mark, consent, why) VALUES (?, ?, ?, ?, ?)", values)
        return changed

    def delete(self, *, subject: str = "", id: str = "", why: str) -> int:
        """Erase a person's signals, or one, with the pictures that no other signal names; returns how many. Kill it, and the next opening finishes it."""
        if bool(subject) == bool(id) or not why.strip():
            raise QI2Error("a deletion names a subject or an id, one of them, and says why")
        column, value = ("subject", subject) if subject else ("id", id)
        with self.ledger.transaction() as database:
            found = database.execute(f"SELECT id FROM signals WHERE {column} = ? ORDER BY number", (value,)).fetchall()
            number = _version(database)
            for k, row in enumerate(found, start=1):
                self.bury(database, row["id"], number + k, why)
                database.execute("DELETE FROM signals WHERE id = ?", (row["id"],))
                database.execute("DELETE FROM consents WHERE id = ?", (row["id"],))
        self.erase()
        return len(found)


def _version(database: Connection) -> int:
    return int(database.execute(f"SELECT MAX(n) FROM ({LAST})").fetchone()[0])


def _signal(row: Mapping[str, Any]) -> Signal:
    """The signal of a row. The id that it was stored with stands, by which rounds, deletions and digests know it, whatever ids are made of since."""
    found = Signal.from_json(row["body"])
    vars(found)["id"] = row["id"]
    return found


def _as_of_now(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose body has the consent that was given last."""
    return row | ({"body": replace(Signal.from_json(row["body"]), consent=row["changed"]).to_json()} if row["changed"] else {})
