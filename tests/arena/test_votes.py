"""Votes are stored safely: one per voter and pair, only ever added, on the disk when acknowledged."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from qi2.arena.votes import AlreadyVoted, Vote, Votes
from qi2.core.errors import QI2Error

WRITER = """
import sys
from pathlib import Path
from qi2.arena.votes import Vote, Votes
votes = Votes(Path(sys.argv[1]))
for i in range(100000):
    votes.add(Vote("v", f"pair{i}", "left", "people", "t2i", "one", "task", "p", "a", "1", "b", "2"))
    print(i, flush=True)
"""


def vote(pair: str = "p", voter: str = "v", choice: str = "left") -> Vote:
    return Vote(voter, pair, choice, "people", "t2i", "one", "task", "a prompt", "a", "1", "b", "2")


def test_a_second_vote_on_a_pair_is_refused_and_the_first_stands(tmp_path: Path) -> None:
    votes = Votes(tmp_path / "deep" / "v.sqlite")
    votes.add(vote())
    with pytest.raises(AlreadyVoted, match="the first vote stands"):
        votes.add(vote(choice="right"))
    votes.add(vote(voter="w", choice="right"))
    assert votes.pairs_of("v") == {"p": "left"} and votes.count() == 2


def test_only_known_choices_are_stored_and_nothing_changes_or_goes(tmp_path: Path) -> None:
    votes = Votes(tmp_path / "v.sqlite")
    with pytest.raises(QI2Error, match="cannot be read or written"):
        votes.add(vote(choice="both"))
    votes.add(vote())
    direct = sqlite3.connect(tmp_path / "v.sqlite")
    for statement in ("DELETE FROM votes", "UPDATE votes SET choice = 'right'"):
        with pytest.raises(sqlite3.Error):
            direct.execute(statement)
    assert votes.pairs_of("v") == {"p": "left"}


def test_one_of_many_votes_at_the_same_time_wins(tmp_path: Path) -> None:
    """Over several connections to the file, as several servers would have."""
    stores = [Votes(tmp_path / "v.sqlite") for _ in range(4)]
    refused: list[str] = []

    def add(store: Votes) -> None:
        for i in range(20):
            try:
                store.add(vote(f"p{i}"))
            except AlreadyVoted:
                refused.append(f"p{i}")

    threads = [threading.Thread(target=add, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].count() == 20 and len(refused) == 60


def test_every_acknowledged_vote_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    stored = [row["pair"] for row in Votes(path).rows()]
    assert stored[: len(told)] == [f"pair{i}" for i in told] and len(stored) <= len(told) + 1
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_disk_stores_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    votes = Votes(tmp_path / "v.sqlite")
    votes.add(vote())
    votes._database.execute("PRAGMA max_page_count = 1")  # SQLite's own full disk
    with pytest.raises(QI2Error, match="free some space"):
        for i in range(1000):
            votes.add(vote(f"q{i}"))
    stored = votes.count()
    votes._database.execute("PRAGMA max_page_count = 100000")
    votes.add(vote("later"))
    assert votes.count() == stored + 1 and votes.pairs_of("v")["p"] == "left"


def test_the_file_is_its_owners_and_its_key_stays(tmp_path: Path) -> None:
    first = Votes(tmp_path / "v.sqlite").fact("key")
    assert len(first) > 40 and Votes(tmp_path / "v.sqlite").fact("key") == first != Votes(tmp_path / "w.sqlite").fact("key")
    assert stat.S_IMODE(os.stat(tmp_path / "v.sqlite").st_mode) == 0o600


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("my notes " * 1000)
    with pytest.raises(QI2Error, match="cannot hold votes"):
        Votes(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "my notes " * 1000
