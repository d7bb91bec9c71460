"""The page on which people vote: Python's own HTTP server, so that it runs wherever the library does. Loopback by default.

Anybody who reaches a loopback page may vote. A page that others reach (another ``host``, or a public ``origin`` behind a proxy) lets in who brings the
invitation; later visits are known by their cookie. Votes come as JSON from this very origin and with a ticket, or not at all. The server speaks plain
HTTP: over a network that is not your own put a proxy with TLS before it and name its address as ``origin``.
"""

import hmac
import ipaddress
import json
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from qi2.arena.booth import Booth, Refused
from qi2.core.errors import QI2Error

COOKIE = "qi2_voter"
MAX_BODY = 4096  # bytes
TIMEOUT_S = 30.0  # of a connection that says nothing
YEAR_S = 365 * 24 * 3600
TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
STATIC = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js", "/leaderboard.js": "leaderboard.js"}
ALWAYS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Door:
    """Who may come in. ``invitation`` is empty where everybody may; ``origin`` is the public address behind a proxy, or empty."""

    origin: str
    invitation: str

    def admits_host(self, host: str) -> bool:
        """Whether the page was asked for under a name of its own; another site's name that leads here (DNS rebinding) is not.

        With an invitation any name does: another name has no cookie of ours, and does not know the invitation.
        """
        if self.origin:
            return host == urlsplit(self.origin).netloc
        return bool(self.invitation) or loopback(urlsplit(f"//{host}").hostname or "")

    def own(self, origin: str, host: str) -> bool:
        """Whether a request comes from a page of this server."""
        return origin == (self.origin or f"http://{host}")

    def invited(self, word: Any) -> bool:
        """Whether a newcomer may vote."""
        return not self.invitation or (isinstance(word, str) and hmac.compare_digest(word.encode(), self.invitation.encode()))


class ArenaServer(ThreadingHTTPServer):
    """One thread per connection; ``port`` 0 takes a free one. Raises QI2Error where the address cannot be had."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, booth: Booth, host: str = "127.0.0.1", port: int = 0, origin: str = "") -> None:
        self.booth = booth
        self.door = Door(origin.rstrip("/"), booth.votes.fact("invitation") if origin or not loopback(host) else "")
        self.static = {path: (TYPES[name.rsplit(".", 1)[1]], (files("qi2.arena") / "page" / name).read_bytes()) for path, name in STATIC.items()}
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise QI2Error(f"{host}:{port} cannot be used: {error}; choose another with --host and --port") from error

    def address(self) -> str:
        """What to open in a browser, with the invitation where one is needed."""
        host, port = self.server_address[:2]
        shown = _seen_from_outside() if host == "0.0.0.0" else str(host)
        invitation = f"#{self.door.invitation}" if self.door.invitation else ""  # after the '#': it goes into no log
        return f"{self.door.origin or f'http://{shown}:{port}'}/{invitation}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke off is the visitor's affair; anything else is told."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Routes, and what every request must bring."""

    server: ArenaServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "qi2", ""
    timeout = TIMEOUT_S
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """The page, a pair, a picture, or the leaderboard."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """A new voter, or a vote."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """No log of who looked at what."""

    def _answer(self, respond: Callable[[], None]) -> None:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # what stays unread of a body must not be taken for the next request; `_body` reads it
        try:
            if not self.server.door.admits_host(self.headers.get("Host", "")):
                raise Refused(421, "this address is not the arena's")
            respond()
        except Refused as refused:
            self._send_json(refused.status, {"error": str(refused)})
        except QI2Error as error:
            sys.stderr.write(f"arena: {error}\n")
            self._send_json(503, {"error": "the vote could not be stored; try again"})

    def _get(self) -> None:
        path, booth = self.path.partition("?")[0], self.server.booth
        if path in self.server.static:
            kind, content = self.server.static[path]
            self._send(200, content, kind, {"Cache-Control": "no-cache"})
        elif path == "/pair":
            self._send_json(200, booth.next(self._voter()))
        elif path == "/leaderboard":
            self._send_json(200, booth.board(self._voter()))
        elif path.startswith("/picture/"):
            self._voter()
            self._send(200, booth.picture(path.removeprefix("/picture/")), "image/png", {"Cache-Control": "private, max-age=86400, immutable"})
        else:
            raise Refused(404, "nothing is here")

    def _post(self) -> None:
        body, booth = self._body(), self.server.booth
        if self.path == "/vote":
            self._send_json(201, booth.vote(self._voter(), body))
        elif self.path == "/voter":
            self._welcome(body)
        else:
            raise Refused(404, "nothing is here")

    def _welcome(self, body: Any) -> None:
        """Know a voter again, or let a new one in."""
        booth, cookie = self.server.booth, self._cookie()
        voter = booth.voter(cookie)
        if voter is None:
            if not self.server.door.invited(body.get("invitation") if isinstance(body, dict) else None):
                raise Refused(403, "You need the invitation: open the whole link that you were given.")
            cookie = booth.enter()
            voter = booth.voter(cookie) or ""
        secure = "; Secure" if self.server.door.origin.startswith("https://") else ""
        kept = f"{COOKIE}={cookie}; Path=/; Max-Age={YEAR_S}; HttpOnly; SameSite=Strict{secure}"
        self._send_json(200, booth.standing(voter), {"Set-Cookie": kept})

    def _body(self) -> Any:
        """The JSON of a request from this very page."""
        origin, site = self.headers.get("Origin", ""), self.headers.get("Sec-Fetch-Site", "same-origin")
        if not self.server.door.own(origin, self.headers.get("Host", "")) or site != "same-origin":
            raise Refused(403, "votes are taken from the arena's own page only")
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "send application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            raise Refused(411, "say the length of the body")
        if len(length) > 9 or int(length) > MAX_BODY:
            raise Refused(413, f"at most {MAX_BODY} bytes")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise Refused(400, "this is no JSON") from error
        self.close_connection = self.headers.get("Connection", "").lower() == "close"
        return body

    def _cookie(self) -> str:
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            return ""
        return found.value if found else ""

    def _voter(self) -> str:
        voter = self.server.booth.voter(self._cookie())
        if voter is None:
            raise Refused(401, "open the page first")
        return voter

    def _send_json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value, allow_nan=False).encode()
        self._send(status, content, "application/json", {"Cache-Control": "no-store", **(headers or {})})

    def _send(self, status: int, content: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **ALWAYS, **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def _seen_from_outside() -> str:
    """This machine's address on the way out, under which a phone on the same network finds it. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: nobody's
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def loopback(host: str) -> bool:
    """Whether a name or address is this very machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
