"""The intake over HTTP: a token, JSON of a strict form, pictures decoded with limits, acknowledged only when it is on the disk."""

import base64
import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qi2.flywheel.intake.web import MAX_BODY, IntakeServer, RateLimit
from qi2.flywheel.store import SignalStore
from tests.flywheel.serving import Started, Visitor, blank, running
from tests.flywheel.test_feedback import bomb, png

PICTURE = base64.b64encode(png()).decode()


@pytest.fixture(name="server")
def fixture_server(tmp_path: Path) -> Iterator[Any]:
    with running(IntakeServer(SignalStore(tmp_path / "s"), limit=RateLimit(60_000, 10_000))) as server:
        yield server


def said(**more: Any) -> dict[str, Any]:
    return {"image": PICTURE, "prompt": "a cat", "verdict": "bad", "subject": "anna"} | more


def send(server: Any, body: Any, **headers: str | None) -> tuple[int, Any, dict[str, str]]:
    return Visitor(server.server_address[1]).ask("/feedback", body, **({"Authorization": f"Bearer {server.token}", "Origin": None} | headers))


def test_feedback_is_stored_once_and_acknowledged(server: Any) -> None:
    status, receipt, _ = send(server, said(why="no cat"))
    assert status == 201 and receipt["new"]
    assert send(server, said(why="no cat"))[:2] == (200, {"id": receipt["id"], "new": False})
    (found,) = server.store.all()
    assert found.id == receipt["id"] and found.consent == "diagnosis" and found.subject == "anna"
    assert server.store.picture(found.picture).tobytes() == blank().tobytes()
    assert send(server, said(prompt="make it blue", references=[PICTURE], consent="training"))[0] == 201 and server.store.all()[1].task == "ti2i"


def test_what_was_deleted_is_not_taken_again(server: Any) -> None:
    assert send(server, said())[0] == 201 and server.store.delete(subject="anna", why="asked") == 1
    assert send(server, said())[0] == 410 and server.store.all() == []


def test_nobody_without_the_token_gets_in(server: Any) -> None:
    for given in (None, "", "Bearer", "Bearer x", f"Bearer {server.token}x", f"Basic {server.token}", server.token, "Bearer \u00e9"):
        assert send(server, said(), Authorization=given)[0] == 401
    assert server.store.all() == []


def test_pages_of_other_sites_and_other_names_are_refused(server: Any) -> None:
    host = f"127.0.0.1:{server.server_address[1]}"
    for origin in ("http://evil.example", "null", f"https://{host}"):
        assert send(server, said(), Origin=origin)[0] == 403
    assert send(server, said(), Host="evil.example")[0] == 421 and send(server, said(), Content_Type="text/plain")[0] == 415
    status, _, headers = send(server, said(), Origin=f"http://{host}")
    assert status == 201 and "access-control-allow-origin" not in headers and headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b"[]",
        b'"x"',
        said(sauce=1),
        said(concent="training"),
        said(prompt=""),
        said(prompt=5),
        said(prompt="x" * 8001),
        said(prompt="\ud800"),
        said(why="a\u0007"),
        said(verdict="awful"),
        said(consent="own"),
        said(consent=True),
        said(subject="x" * 201),
        said(image=7),
        said(image="%%%"),
        said(image=""),
        said(image="../../etc/passwd"),
        said(image=base64.b64encode(bomb()).decode()),
        said(image=base64.b64encode(png()[:60]).decode()),
        said(image=base64.b64encode(b"<svg onload=alert(1)>").decode()),
        said(references=PICTURE),
        said(references=[PICTURE] * 11),
        said(references=[7]),
        {"prompt": "a", "verdict": "bad"},
        b'{"image": "x", "prompt": "a", "verdict": "bad", "why": NaN}',
    ],
)
def test_malformed_and_malicious_feedback_is_refused(server: Any, body: Any) -> None:
    status, told, _ = send(server, body)
    assert status == 400 and told["error"] and server.store.all() == [] and send(server, said())[0] == 201


def test_a_body_that_is_too_large_is_refused_unread(server: Any) -> None:
    for length, status in ((str(MAX_BODY + 1), 413), ("9" * 30, 413), (None, 411), ("-1", 411), ("1_0", 411)):
        assert send(server, b"", Content_Length=length)[0] == status
    assert send(server, b"", Transfer_Encoding="chunked")[0] == 411
    assert send(server, said(image="A" * (17 << 20)))[0] == 400  # below the body's limit, beyond a picture's


def test_only_the_page_and_its_one_route_are_there(server: Any) -> None:
    one = Visitor(server.server_address[1])
    assert one.ask("/")[0] == 200 and server.token.encode() not in one.ask("/")[1] + one.ask("/page.js")[1]
    for path in ("/feedback", "/signals.sqlite", "/../signals.sqlite", "/pictures/ab"):
        assert one.ask(path)[0] == 404
    assert one.ask("/other", {}, Authorization=f"Bearer {server.token}", Origin=None)[0] == 404


def test_too_many_requests_wait_also_those_that_guess_the_token(tmp_path: Path) -> None:
    with running(IntakeServer(SignalStore(tmp_path / "s"), limit=RateLimit(60, 3))) as server:
        assert [send(server, said(), Authorization="Bearer guess")[0] for _ in range(3)] == [401] * 3
        status, _, headers = send(server, said())
        assert status == 429 and int(headers["retry-after"]) >= 1


def test_a_bucket_fills_again_and_forgets_addresses() -> None:
    limit = RateLimit(60, 2, most=10)
    assert [limit.wait("a", 0.0) for _ in range(2)] == [0, 0] and limit.wait("a", 0.0) == pytest.approx(1.0)
    assert limit.wait("b", 0.0) == 0 and limit.wait("a", 1.0) == 0 and limit.wait("a", 1.0) > 0
    for k in range(50):
        limit.wait(f"x{k}", 1.0)
    assert len(limit._left) <= 10 and limit.wait("a", 1.0) > 0  # whoever asked too often is not forgotten for others


def test_a_page_that_others_reach_is_served_under_its_own_name_only(tmp_path: Path) -> None:
    with running(IntakeServer(SignalStore(tmp_path / "s"), origin="https://feedback.example.org")) as server:
        assert send(server, said())[0] == 421 and send(server, said(), Host="feedback.example.org")[0] == 201
        assert server.address().startswith("https://feedback.example.org/")


def test_a_full_disk_is_told_and_nothing_is_acknowledged(server: Any) -> None:
    server.store.ledger._database.execute("PRAGMA max_page_count = 1")  # SQLite's own full disk
    status, told, _ = send(server, said(why="x" * 4000, prompt="y" * 8000))
    assert status == 503 and "again" in told["error"]
    server.store.ledger._database.execute("PRAGMA max_page_count = 100000")
    assert send(server, said())[0] == 201


def test_a_kill_in_the_middle_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Eight senders; what was not acknowledged is sent again after the restart, and counts once."""
    server = Started("intake", "--store", str(tmp_path / "s"), "--port", "0", "--per-minute", "100000")
    token = server.said.split("the token ")[1].split()[0]
    acknowledged, pending = set(), []

    def post(port: int, prompt: str) -> int:
        return Visitor(port).ask("/feedback", said(prompt=prompt), Authorization=f"Bearer {token}", Origin=None)[0]

    def keep_telling(name: int) -> None:
        for k in range(1000):
            try:
                assert post(server.port, f"{name} {k}") == 201
                acknowledged.add(f"{name} {k}")
            except (OSError, http.client.HTTPException):
                pending.append(f"{name} {k}")
                return

    threads = [threading.Thread(target=keep_telling, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 20 and any(thread.is_alive() for thread in threads):
        pass
    server.end(signal.SIGKILL)
    for thread in threads:
        thread.join()
    store = SignalStore(tmp_path / "s")
    stored = {one.prompt for one in store.all()}
    assert len(acknowledged) >= 20 and acknowledged <= stored <= acknowledged | set(pending)
    assert all(store.picture(one.picture) for one in store.all())
    store.close()
    again = Started("intake", "--store", str(tmp_path / "s"), "--port", "0")
    assert token in again.said and all(post(again.port, prompt) in (200, 201) for prompt in pending)
    assert again.end(signal.SIGTERM) == 0
    assert {one.prompt for one in SignalStore(tmp_path / "s").all()} == acknowledged | set(pending)


def test_a_sender_that_goes_away_leaves_nothing_half_written(server: Any) -> None:
    content = json.dumps(said(prompt="half")).encode()
    lines = ["POST /feedback HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {server.token}", "Content-Type: application/json"]
    head = "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""])
    with socket.create_connection(server.server_address[:2]) as link:
        link.sendall(head.encode() + content[: len(content) // 2])
    assert send(server, said(prompt="whole"))[0] == 201 and [one.prompt for one in server.store.all()] == ["whole"]


def test_the_pictures_names_and_metadata_are_not_kept(server: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at 52.52 N"
    blank().save(tmp_path / "x.jpg", exif=exif)
    assert send(server, said(image=base64.b64encode((tmp_path / "x.jpg").read_bytes()).decode()))[0] == 201
    kept = b"".join(path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file())
    assert b"52.52" not in kept and os.stat(tmp_path / "s" / "signals.sqlite").st_mode & 0o077 == 0
