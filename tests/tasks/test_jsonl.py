"""Following a growing file of JSON lines."""

from pathlib import Path

from tasks.jsonl import Follower, append


def test_an_unfinished_line_waits_for_the_next_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    follower = Follower(path)
    assert follower.read() == []
    append(path, step=1)
    with open(path, "a") as handle:
        handle.write('{"step": ')
    assert [line["step"] for line in follower.read()] == [1]
    with open(path, "a") as handle:
        handle.write("2}\n")
    assert [line["step"] for line in follower.read()] == [2]


def test_following_from_the_end_ignores_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append(path, step=1)
    follower = Follower(path, from_end=True)
    append(path, step=2)
    assert [line["step"] for line in follower.read()] == [2]
