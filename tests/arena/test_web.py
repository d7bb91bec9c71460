"""The page's server: blind, one vote each, from its own page only, nothing lost when it is killed, and a hundred voters at once."""

import http.client
import io
import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qi2.arena.votes import Votes
from tests.arena.conftest import MODELS, Process, served


class Visitor:
    """A browser without a screen: keeps its cookie and its connection."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.cookie = f"{host}:{port}", ""
        self.connection = http.client.HTTPConnection(host, port, timeout=30)

    def ask(self, path: str, body: Any = None, method: str = "", **headers: str | None) -> tuple[int, bytes, dict[str, str]]:
        """Status, content and headers; header names are given with underscores, None leaves one out."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given: dict[str, str | None] = {"Cookie": self.cookie or None, "Host": self.host}
        if body is not None:
            given |= {"Origin": f"http://{self.host}", "Content-Type": "application/json", "Content-Length": str(len(content or b""))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.putrequest(method or ("GET" if body is None else "POST"), path, skip_host=True, skip_accept_encoding=True)
        for name, value in given.items():
            if value is not None:
                self.connection.putheader(name, value)
        self.connection.endheaders(content)
        answer = self.connection.getresponse()
        found = answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        if "set-cookie" in found[2]:
            self.cookie = found[2]["set-cookie"].partition(";")[0]
        return found

    def enter(self, invitation: str = "") -> "Visitor":
        assert self.ask("/voter", {"invitation": invitation})[0] == 200
        return self

    def pair(self) -> dict[str, Any]:
        status, content, _ = self.ask("/pair")
        assert status == 200, content
        return dict(json.loads(content))

    def vote(self, ticket: str, choice: str = "left", **headers: str | None) -> int:
        return self.ask("/vote", {"ticket": ticket, "choice": choice}, **headers)[0]


@pytest.fixture(name="server")
def fixture_server(evaluation: Path, tmp_path: Path) -> Iterator[Any]:
    with served([str(evaluation)], tmp_path / "v.sqlite") as server:
        yield server


def visitor(server: Any) -> Visitor:
    return Visitor("127.0.0.1", server.server_address[1] if hasattr(server, "server_address") else server.port)


def test_a_vote_is_stored_with_what_was_seen(server: Any) -> None:
    voter = visitor(server).enter()
    pair = voter.pair()
    assert voter.vote(pair["ticket"], "right") == 201 and voter.pair()["ticket"] != pair["ticket"] and voter.pair()["votes"] == 1
    (row,) = server.booth.votes.rows()
    assert row["choice"] == "right" and row["prompt"] == pair["prompt"] and {row["left_entrant"], row["right_entrant"]} < set(MODELS)
    left = server.booth.field.entrants[row["left_entrant"]].pictures[row["task"]]
    shown, stored = (Image.open(source).convert("RGB") for source in (io.BytesIO(voter.ask(f"/picture/{pair['left']}")[1]), left.path))
    assert row["left_sha256"] == left.sha256 and shown.tobytes() == stored.tobytes()


def test_nothing_that_a_voter_gets_names_a_model(server: Any) -> None:
    voter = visitor(server).enter()
    seen, suites = [], set()
    for path in ("/", "/page.css", "/page.js", "/send.js", "/leaderboard.js", "/leaderboard"):
        seen.append(voter.ask(path))
    while len(suites) < 2:
        pair = voter.pair()
        suites.add(pair["suite"])
        seen += [voter.ask("/pair"), *(voter.ask(f"/picture/{name}") for name in (pair["left"], pair["right"], *pair["sources"]))]
        assert voter.vote(pair["ticket"], "skip") == 201
    for _, content, headers in seen:
        assert not re.search("|".join(MODELS), content.decode("latin-1") + str(headers))
    pictures = [(content, headers) for _, content, headers in seen if headers["content-type"] == "image/png"]
    assert len({str({**headers, "content-length": "", "date": ""}) for _, headers in pictures}) == 1
    assert all(set(re.findall(rb"(IHDR|IDAT|IEND|tEXt|iTXt|zTXt|tIME|eXIf|iCCP|pHYs)", content)) == {b"IHDR", b"IDAT", b"IEND"} for content, _ in pictures)


def test_a_second_vote_is_refused_and_a_reload_shows_the_same_pair(server: Any) -> None:
    voter = visitor(server).enter()
    pair = voter.pair()
    assert voter.pair() == pair
    assert voter.vote(pair["ticket"]) == 201
    assert voter.vote(pair["ticket"], "right") == 409 and voter.vote(pair["ticket"]) == 409
    assert [row["choice"] for row in server.booth.votes.rows()] == ["left"]


def test_a_pair_cannot_be_voted_on_again_with_its_sides_turned(server: Any) -> None:
    voter = visitor(server).enter()
    pair = voter.pair()
    task, left, right, signature = pair["ticket"].split(".")
    assert voter.vote(f"{task}.{right}.{left}.{signature}") == 403 and voter.vote(pair["ticket"]) == 201


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 4000, 400),
        (b"", 400),
        (b"null", 400),
        (b'{"ticket": "x"}', 400),
        (b'{"ticket": "x", "choice": "left"}', 400),
        (b'{"ticket": 1, "choice": "left"}', 400),
        (b'{"ticket": "a.b.c.d", "choice": "left"}', 403),
        ('{"ticket": "a.b.c.\u00e9", "choice": "left"}'.encode(), 403),
        (b'{"ticket": "TICKET", "choice": "both"}', 400),
        (b'{"ticket": "TICKET", "choice": "left", "voter": "x"}', 400),
        (b'{"ticket": "TICKETx", "choice": "left"}', 403),
        (b'{"ticket": "a.b.c.\\ud800", "choice": "left"}', 400),
        (b'{"ticket": "' + b"x" * 5000 + b'", "choice": "left"}', 413),
    ],
)
def test_malformed_votes_are_refused(server: Any, body: bytes, status: int) -> None:
    voter = visitor(server).enter()
    assert voter.ask("/vote", body.replace(b"TICKET", voter.pair()["ticket"].encode()))[0] == status
    assert server.booth.votes.count() == 0 and visitor(server).ask("/")[0] == 200


def test_votes_from_another_site_are_refused(server: Any) -> None:
    """A page elsewhere makes the voter's browser send requests: other origin, none, a form's type, or a name of its own that leads here."""
    voter = visitor(server).enter()
    ticket = voter.pair()["ticket"]
    for origin in ("http://evil.example", "null", None, f"https://{voter.host}", f"http://{voter.host}.evil.example", "http://127.0.0.1:1"):
        assert voter.vote(ticket, Origin=origin) == 403
    assert voter.vote(ticket, Sec_Fetch_Site="cross-site") == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert voter.vote(ticket, Content_Type=kind) == 415
    assert voter.vote(ticket, Host="evil.example", Origin="http://evil.example") == 421 and voter.ask("/pair", Host="evil.example")[0] == 421
    assert server.booth.votes.count() == 0 and voter.vote(ticket) == 201
    cookie = visitor(server).ask("/voter", {})[2]["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert "access-control-allow-origin" not in voter.ask("/pair")[2]


def test_a_voter_cannot_be_made_up_and_a_ticket_is_its_voters_own(server: Any) -> None:
    one, other = visitor(server).enter(), visitor(server).enter()
    ticket = one.pair()["ticket"]
    assert other.vote(ticket) == 403
    for cookie in ("", "qi2_voter=x", "qi2_voter=abc.def", one.cookie[:-1] + "x", "qi2_voter=\u00e9.\u00e9", 'qi2_voter="', "x" * 5000):
        assert visitor(server).ask("/pair", Cookie=cookie)[0] == 401
    known = one.cookie
    assert one.enter().cookie == known  # who is known stays who they are


def test_paths_lead_nowhere_but_to_pictures(server: Any) -> None:
    voter = visitor(server).enter()
    for path in (
        "/picture/../../etc/passwd",
        "/picture/%2e%2e%2fresults.json",
        "/../page.html",
        "/page/page.html",
        "/results.json",
        "//etc/passwd",
        "/picture/",
    ):
        assert voter.ask(path)[0] == 404
    assert visitor(server).ask(f"/picture/{voter.pair()['left']}")[0] == 401
    assert voter.ask("/vote", method="PUT")[0] == 501
    headers = voter.ask("/")[2]
    assert "default-src 'none'" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"


def test_a_picture_that_changed_since_is_not_shown(evaluation: Path, tmp_path: Path) -> None:
    """A vote would be stored for what was there before."""
    copy = Path(shutil.copytree(evaluation, tmp_path / "evaluate"))
    with served([str(copy)], tmp_path / "v.sqlite") as server:
        voter = visitor(server).enter()
        pair = voter.pair()
        shown, gone = (server.booth._pictures[pair[side]][0].path for side in ("left", "right"))
        shown.write_bytes(gone.read_bytes())
        gone.unlink()
        assert voter.ask(f"/picture/{pair['left']}")[0] == 410 and voter.ask(f"/picture/{pair['right']}")[0] == 410


def test_a_body_must_say_its_length(server: Any) -> None:
    for length, status in ((None, 411), ("-1", 411), ("9" * 30, 413), ("1_0", 411), ("\u00b2", 411)):
        assert visitor(server).ask("/vote", b"", Content_Length=length)[0] == status
    assert visitor(server).ask("/vote", b"", Transfer_Encoding="chunked", Content_Length="0")[0] == 411


def test_the_leaderboard_opens_after_enough_votes(server: Any) -> None:
    """Three here; skips are no votes."""
    voter = visitor(server).enter()
    for choice in ("left", "skip", "tie"):
        assert voter.vote(voter.pair()["ticket"], choice) == 201
    assert voter.ask("/leaderboard")[0] == 403
    assert voter.vote(voter.pair()["ticket"], "right") == 201
    status, content, _ = voter.ask("/leaderboard")
    assert status == 200 and sum(ratings["votes"] for name, ratings in json.loads(content)["boards"].items() if "/" not in name) == 3


def test_who_has_seen_every_pair_is_done_and_sees_the_leaderboard(server: Any) -> None:
    voter = visitor(server).enter()
    for _ in range(36):
        assert voter.vote(voter.pair()["ticket"], "skip") == 201
    assert "ticket" not in voter.pair() and voter.ask("/leaderboard")[0] == 200


def test_a_ticket_of_pictures_that_are_gone_is_told_apart(evaluation: Path, tmp_path: Path) -> None:
    with served([str(evaluation)], tmp_path / "v.sqlite") as server:
        voter = visitor(server).enter()
        while {"modelgood"} & set(_names(server, pair := voter.pair())) == set():
            voter.vote(pair["ticket"], "skip")
    with served([str(evaluation / "samples" / name) for name in ("modelbad", "modelfair")] + [f"other={evaluation}"], tmp_path / "v.sqlite") as server:
        again = visitor(server)
        again.cookie = voter.cookie
        assert again.vote(pair["ticket"]) == 410


def _names(server: Any, pair: dict[str, Any]) -> list[str]:
    return [server.booth._pictures[pair[side]][1].name for side in ("left", "right")]


def test_a_page_that_others_reach_needs_the_invitation(evaluation: Path, tmp_path: Path) -> None:
    with served([str(evaluation)], tmp_path / "v.sqlite", origin="https://votes.example.org") as server:
        at = {"Host": "votes.example.org", "Origin": "https://votes.example.org"}
        invitation = server.address().removeprefix("https://votes.example.org/#")
        assert visitor(server).ask("/voter", {}, **at)[0] == 403 and visitor(server).ask("/voter", {"invitation": "x"}, **at)[0] == 403
        status, _, headers = visitor(server).ask("/voter", {"invitation": invitation}, **at)
        assert status == 200 and "; Secure" in headers["set-cookie"]
        assert visitor(server).ask("/", Host="evil.example")[0] == 421
    with served([str(evaluation)], tmp_path / "v.sqlite", host="0.0.0.0") as server:
        assert server.address().endswith(f"#{invitation}")  # the same after a restart
        assert visitor(server).ask("/voter", {})[0] == 403 and visitor(server).enter(invitation).pair()["ticket"]


def test_a_server_that_is_killed_in_the_middle_of_votes_loses_none(evaluation: Path, tmp_path: Path) -> None:
    """What was acknowledged is there; what was not is sent again after the restart, with the old cookie and ticket, and counts once."""
    server = Process(evaluation, tmp_path / "v.sqlite")
    acknowledged, pending = set(), []

    def keep_voting(voter: Visitor) -> None:
        ticket = ""
        try:
            while ticket := voter.pair()["ticket"]:
                assert voter.vote(ticket) == 201
                acknowledged.add((voter.cookie, ticket))
        except (OSError, http.client.HTTPException):
            pending.append((voter.cookie, ticket))

    threads = [threading.Thread(target=keep_voting, args=(visitor(server).enter(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 40:
        time.sleep(0.002)
    server.end(signal.SIGKILL)
    for thread in threads:
        thread.join()
    stored = Votes(tmp_path / "v.sqlite").count()
    assert len(acknowledged) <= stored <= len(acknowledged) + 8 and len(pending) == 8
    again = Process(evaluation, tmp_path / "v.sqlite")
    for cookie, ticket in pending:
        voter = visitor(again)
        voter.cookie = cookie
        assert voter.vote(ticket) in (201, 409)  # 409: it had been stored, and only the answer was lost
    assert again.end(signal.SIGINT) == 0
    assert Votes(tmp_path / "v.sqlite").count() == len(acknowledged | set(pending))


def test_a_hundred_voters_at_once(evaluation: Path, tmp_path: Path) -> None:
    """Each looks at three pairs with their pictures and votes; every vote is there once, and nobody waits for long."""
    server = Process(evaluation, tmp_path / "v.sqlite")
    waits, failures = [], []

    def visit() -> None:
        try:
            voter = visitor(server).enter()
            for _ in range(3):
                started = time.monotonic()
                pair = voter.pair()
                for name in (pair["left"], pair["right"], *pair["sources"]):
                    assert voter.ask(f"/picture/{name}")[0] == 200
                assert voter.vote(pair["ticket"]) == 201
                waits.append(time.monotonic() - started)
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=visit) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.end(signal.SIGINT) == 0
    rows = list(Votes(tmp_path / "v.sqlite").rows())
    assert failures == [] and len(rows) == 300 and len({row["voter"] for row in rows}) == 100
    assert max(waits) < 20.0  # s, on a machine that does other things too
