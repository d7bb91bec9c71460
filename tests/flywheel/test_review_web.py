"""The review page's server: who may come in, what is refused, and that what it acknowledged is kept through a kill."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qi2.flywheel.review.queue import ReviewQueue
from qi2.flywheel.review.web import ReviewServer
from tests.flywheel.serving import Started, Visitor, candidates, filled, running


@pytest.fixture(name="server")
def fixture_server(tmp_path: Path) -> Iterator[Any]:
    with running(ReviewServer(filled(tmp_path / "queue"))) as server:
        yield server


def visitor(server: Any) -> Visitor:
    return Visitor(server.server_address[1])


def test_a_decision_is_stored_with_its_reviewer(server: Any) -> None:
    one = visitor(server).enter()
    shown = one.ask("/next")[1]
    assert (shown["origin"]["batch"], shown["origin"]["mode"]) == ("tiny/001", "person")
    assert shown["id"] == "c0" and shown["left"] == 5 and shown["checks"]["all"] and shown["neighbours"][0]["caption"] == "a near one"
    assert one.ask("/decide", {"ticket": shown["ticket"], "verdict": "edit", "prompt": "a clearer one"})[0] == 201
    (found,) = server.desk.queue.accepted()
    assert found.prompt == "a clearer one" and found.origin["review"]["by"].startswith("reviewer/")
    assert one.ask("/next")[1]["id"] == "c1" and one.ask("/undo", {})[1]["id"] == "c0" and server.desk.queue.accepted() == []


def test_arrows_lead_round_what_is_left(server: Any) -> None:
    one = visitor(server).enter()
    step = lambda after, by: one.ask("/step", {"after": after, "step": by})[1]["id"]  # noqa: E731
    assert [step("c0", 1), step("c4", 1), step("c0", -1), step("nosuch", 1)] == ["c1", "c0", "c4", "c0"]
    ticket = one.ask("/step", {"after": "c1", "step": 1})[1]["ticket"]
    assert one.ask("/decide", {"ticket": ticket, "verdict": "reject"})[0] == 201 and [step("c2", 1), step("c2", -1)] == ["c3", "c1"]
    for body in ({}, {"after": "c0", "step": 2}, {"after": 1, "step": 1}, [], b"null", b'{"after": "\xed\xa0\x80", "step": 1}'):
        assert one.ask("/step", body)[0] == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[" * 4000, 400),
        (b"null", 400),
        (b'{"ticket": "TICKET"}', 400),
        (b'{"ticket": "TICKET", "verdict": 1}', 400),
        (b'{"ticket": "TICKET", "verdict": "maybe"}', 400),
        (b'{"ticket": "TICKET", "verdict": "undo"}', 400),
        (b'{"ticket": "TICKET", "verdict": "edit"}', 400),
        (b'{"ticket": "TICKET", "verdict": "accept", "by": "me"}', 400),
        (b'{"ticket": "TICKET", "verdict": "edit", "prompt": "\\ud800"}', 400),
        (b'{"ticket": "c0.0", "verdict": "accept"}', 403),
        (b'{"ticket": "TICKETx", "verdict": "accept"}', 403),
        (b'{"ticket": "\\ud800.x", "verdict": "accept"}', 400),
        (b'{"ticket": "TICKET", "verdict": "accept", "why": "\\uDC00"}', 400),
        (b'{"ticket": "TICKET", "verdict": "accept", "why": "\xed\xa0\x80"}', 400),
        ('{"ticket": "TICKET", "verdict": "accept", "why": "\\ud800"}'.encode("utf-16"), 400),
        (b'{"ticket": "TICKET", "verdict": NaN}', 400),
        (b'{"ticket": "' + b"x" * 200_000 + b'", "verdict": "accept"}', 413),
    ],
)
def test_malformed_decisions_are_refused(server: Any, body: bytes, status: int) -> None:
    one = visitor(server).enter()
    assert one.ask("/decide", body.replace(b"TICKET", one.ask("/next")[1]["ticket"].encode()))[0] == status
    assert server.desk.queue.decisions() == [] and visitor(server).ask("/")[0] == 200


def test_other_sites_other_names_and_strangers_are_refused(server: Any) -> None:
    one = visitor(server).enter()
    body = {"ticket": one.ask("/next")[1]["ticket"], "verdict": "accept"}
    for origin in ("http://evil.example", "null", None, f"https://{one.host}"):
        assert one.ask("/decide", body, Origin=origin)[0] == 403
    assert one.ask("/decide", body, Sec_Fetch_Site="cross-site")[0] == 403 and one.ask("/decide", body, Content_Type="text/plain")[0] == 415
    assert one.ask("/decide", body, Host="evil.example", Origin="http://evil.example")[0] == 421 and one.ask("/next", Host="[")[0] == 421
    assert visitor(server).ask("/next")[0] == 401 and visitor(server).ask("/decide", body)[0] == 401
    assert visitor(server).enter().ask("/decide", body)[0] == 403  # another's ticket
    assert server.desk.queue.decisions() == []


def test_paths_lead_nowhere_but_to_the_queues_pictures(server: Any) -> None:
    one = visitor(server).enter()
    target = one.ask("/next")[1]["target"]
    assert one.ask(f"/picture/{target}")[0] == 200 and visitor(server).ask(f"/picture/{target}")[0] == 401
    for path in ("/picture/../../queue.sqlite", "/picture/%2e%2e", "/picture/" + "0" * 64, "/picture/", "/queue.sqlite", "//etc/passwd", "/page/page.html"):
        assert one.ask(path)[0] == 404
    headers = one.ask("/")[2]
    assert "default-src 'none'" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"


def test_a_page_that_others_reach_needs_the_invitation(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue")
    with running(ReviewServer(queue, origin="https://review.example.org")) as server:
        at = {"Host": "review.example.org", "Origin": "https://review.example.org"}
        invitation = server.address().partition("#")[2]
        assert visitor(server).ask("/visitor", {}, **at)[0] == 403 and visitor(server).ask("/visitor", {"invitation": "x"}, **at)[0] == 403
        status, _, headers = visitor(server).ask("/visitor", {"invitation": invitation}, **at)
        assert status == 200 and "; Secure" in headers["set-cookie"] and "HttpOnly" in headers["set-cookie"]
    with running(ReviewServer(queue, host="0.0.0.0")) as server:
        assert visitor(server).ask("/visitor", {})[0] == 403


def test_two_reviewers_decide_a_candidate_once(server: Any) -> None:
    one, other = visitor(server).enter(), visitor(server).enter()
    first, second = one.ask("/next")[1], other.ask("/next")[1]
    assert first["id"] == second["id"] and one.ask("/decide", {"ticket": first["ticket"], "verdict": "accept"})[0] == 201
    status, told, _ = other.ask("/decide", {"ticket": second["ticket"], "verdict": "reject"})
    assert status == 409 and "undo that first" in told["error"]
    assert other.ask("/undo", {})[0] == 404 and len(server.desk.queue.accepted()) == 1


def test_a_killed_server_loses_no_acknowledged_decision_and_its_tickets_stay_good(tmp_path: Path) -> None:
    queue = ReviewQueue(tmp_path / "queue")
    queue.put(candidates(queue, 30))
    queue.close()
    server = Started("review", "--queue", str(tmp_path / "queue"), "--port", "0", "--by", "anna")
    one = Visitor(server.port).enter()
    done = []
    for _ in range(10):
        shown = one.ask("/next")[1]
        assert one.ask("/decide", {"ticket": shown["ticket"], "verdict": "accept"})[0] == 201
        done.append(shown["id"])
    ticket = one.ask("/next")[1]["ticket"]
    server.end(signal.SIGKILL)
    assert [found.id for found in ReviewQueue(tmp_path / "queue").accepted()] == done
    again = Started("review", "--queue", str(tmp_path / "queue"), "--port", "0", "--by", "anna")
    back = Visitor(again.port)
    back.cookie = one.cookie
    assert back.ask("/decide", {"ticket": ticket, "verdict": "accept"})[0] == 201 and back.ask("/decide", {"ticket": ticket, "verdict": "accept"})[0] == 409
    assert again.end(signal.SIGINT) == 0
    assert len(ReviewQueue(tmp_path / "queue").accepted()) == 11
