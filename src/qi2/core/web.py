"""A small page with JSON behind it: Python's own HTTP server, so that it runs wherever the library does. Loopback by default.

Requests that change something come as JSON from the page's very own origin, or not at all; every answer forbids foreign content. The server speaks plain
HTTP: over a network that is not your own put a proxy with TLS before it and name its address as ``origin``.
"""

import json
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from qi2.core.door import Door, Refused, Signer, loopback, seen_from_outside
from qi2.core.errors import QI2Error

TIMEOUT_S = 30.0  # of a connection that says nothing
YEAR_S = 365 * 24 * 3600
SHARED = {"/send.js": "send.js"}  # beside this file: what every page's script imports
TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
ALWAYS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def parsed(data: bytes) -> Any:
    """The JSON that a stranger sent. Raises Refused for what is none, for NaN, and for halves of surrogate pairs, which no file and no hash can hold."""
    try:
        found = json.loads(data.decode(), parse_constant=_no_number)  # of bytes json would take other encodings, and halves of pairs
        if b"\\ud" in data.lower():
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refused(400, "this is no JSON") from error
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


class PageServer(ThreadingHTTPServer):
    """One thread per connection; ``port`` 0 takes a free one. Raises QI2Error where the address cannot be had.

    ``invitation`` is needed by visitors where the page is not only this machine's; ``page`` names the package folder of its files.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, handler: type["PageHandler"], host: str, port: int, origin: str, invitation: str) -> None:
        self.door = Door(origin.rstrip("/"), invitation if origin or not loopback(host) else "")
        own = [("qi2.core", SHARED), (handler.package, handler.files)]
        named = [(path, name, files(package) / "page" / name) for package, names in own for path, name in names.items()]
        self.static = {path: (TYPES[name.rsplit(".", 1)[1]], file.read_bytes()) for path, name, file in named}
        try:
            super().__init__((host, port), handler)
        except (OSError, OverflowError) as error:
            raise QI2Error(f"{host}:{port} cannot be used: {error}; choose another with --host and --port") from error

    def address(self) -> str:
        """What to open in a browser, with the invitation where one is needed."""
        host, port = self.server_address[:2]
        shown = seen_from_outside() if host == "0.0.0.0" else str(host)
        invitation = f"#{self.door.invitation}" if self.door.invitation else ""  # after the '#': it goes into no log
        return f"{self.door.origin or f'http://{shown}:{port}'}/{invitation}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke off is the visitor's affair; anything else is told."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def serve_until_told(self) -> None:
        """Serve until Ctrl-C or a terminating signal."""
        for number in (signal.SIGINT, signal.SIGTERM):  # a shell that starts it in the background has SIGINT ignored
            signal.signal(number, signal.default_int_handler)
        with self, suppress(KeyboardInterrupt):
            self.serve_forever()


class PageHandler(BaseHTTPRequestHandler):
    """What every request must bring, and how answers go. A page says its routes in ``get`` and ``post`` and raises Refused for what it does not grant."""

    package = ""  # whose folder page/ holds the files
    files: Mapping[str, str] = {}  # {path: file}
    name = "page"  # in messages
    sorry = "this could not be stored; try again"
    max_body = 4096  # bytes

    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "qi2", ""
    timeout = TIMEOUT_S
    disable_nagle_algorithm = True

    def get(self, path: str) -> None:
        """Answer a GET that is none of the page's files."""
        raise Refused(404, "nothing is here")

    def post(self, path: str) -> None:
        """Answer a POST; ``body`` reads what it brought."""
        raise Refused(404, "nothing is here")

    def do_GET(self) -> None:
        """A file of the page, or what ``get`` knows."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """What ``post`` knows."""
        self._answer(lambda: self.post(self.path))

    def log_message(self, format: str, *args: Any) -> None:
        """No log of who looked at what."""

    def _answer(self, respond: Callable[[], None]) -> None:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # what stays unread of a body must not be taken for the next request; `body` reads it
        try:
            if not self.server.door.admits_host(self.headers.get("Host", "")):
                raise Refused(421, f"this address is not the {self.name}'s")
            respond()
        except Refused as refused:
            self.send_json(refused.status, {"error": str(refused)})
        except QI2Error as error:
            sys.stderr.write(f"{self.name}: {error}\n")
            self.send_json(503, {"error": self.sorry})

    def _get(self) -> None:
        path = self.path.partition("?")[0]
        if path in self.server.static:
            kind, content = self.server.static[path]
            self.send(200, content, kind, {"Cache-Control": "no-cache"})
        else:
            self.get(path)

    def own_page(self) -> None:
        """Refuse what does not come from this very page."""
        origin, site = self.headers.get("Origin", ""), self.headers.get("Sec-Fetch-Site", "same-origin")
        if not self.server.door.own(origin, self.headers.get("Host", "")) or site != "same-origin":
            raise Refused(403, f"this is taken from the {self.name}'s own page only")

    def body(self) -> Any:
        """The JSON that a request brought, no larger than ``max_body``."""
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "send application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            raise Refused(411, "say the length of the body")
        if len(length) > 9 or int(length) > self.max_body:
            raise Refused(413, f"at most {self.max_body} bytes")
        found = parsed(self.rfile.read(int(length)))
        self.close_connection = self.headers.get("Connection", "").lower() == "close"
        return found

    def cookie(self, name: str) -> str:
        """A cookie's value, or nothing."""
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get(name)
        except CookieError:
            return ""
        return found.value if found else ""

    def visitor(self, signer: Signer, name: str) -> str:
        """Who asks. Raises Refused where nobody has come in."""
        visitor = signer.visitor(self.cookie(name))
        if visitor is None:
            raise Refused(401, "open the page first")
        return visitor

    def welcome(self, signer: Signer, name: str, body: Any) -> tuple[str, dict[str, str]]:
        """Know a visitor again, or let a new one in by ``{"invitation"}``: who it is, and the header that makes the browser remember."""
        cookie = self.cookie(name)
        visitor = signer.visitor(cookie)
        if visitor is None:
            if not self.server.door.invited(body.get("invitation") if isinstance(body, dict) else None):
                raise Refused(403, "You need the invitation: open the whole link that you were given.")
            cookie = signer.enter()
            visitor = signer.visitor(cookie) or ""
        secure = "; Secure" if self.server.door.secure else ""
        return visitor, {"Set-Cookie": f"{name}={cookie}; Path=/; Max-Age={YEAR_S}; HttpOnly; SameSite=Strict{secure}"}

    def send_json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        """Answer with JSON that nobody keeps."""
        content = json.dumps(value, allow_nan=False).encode()
        self.send(status, content, "application/json", {"Cache-Control": "no-store", **(headers or {})})

    def send(self, status: int, content: bytes, kind: str, headers: dict[str, str]) -> None:
        """Answer, with the headers that every answer has."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **ALWAYS, **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
