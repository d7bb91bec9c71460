"""Feedback over HTTP: ``POST /feedback`` of one JSON object with a bearer token, and a page with a form that sends it. Loopback by default (`core.web`).

{"image": base64, "prompt", "verdict": "bad" | "good", "why"?, "references"?: [base64], "consent"?: "diagnosis" | "training", "subject"?, "model"?, "kind"?}
201 {"id", "new": true} once it is on the disk, 200 where it had been told before, 410 where it was deleted; 400 malformed, 401 token, 413 size, 429 too often.
"""

import base64
import binascii
import threading
import time
from typing import Any, cast

from PIL import Image

from qi2.core.door import Refused, same
from qi2.core.errors import QI2Error
from qi2.core.pictures import MAX_BYTES, decode
from qi2.core.web import PageHandler, PageServer
from qi2.flywheel.intake.feedback import MOST_REFERENCES, Feedback, take
from qi2.flywheel.store import SignalStore

MAX_BODY = 32 << 20  # bytes: a picture and some references in base64
AT_ONCE = 4  # bodies in memory, and pictures that are decoded, at the same time
WAIT_S = 20.0
KEYS = ("image", "references")


class RateLimit:
    """A bucket of ``burst`` requests per address that fills at ``per_minute``; of addresses it forgets the fullest beyond ``most``."""

    def __init__(self, per_minute: float = 60.0, burst: int = 30, most: int = 10_000) -> None:
        self.rate, self.burst, self.most = per_minute / 60.0, float(burst), most
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait(self, address: str, now: float) -> float:
        """0 where a request is granted, else the seconds until the next one is."""
        with self._lock:
            left, at = self._left.get(address, (self.burst, now))
            left = min(self.burst, left + (now - at) * self.rate)
            granted = left >= 1.0
            self._left[address] = (left - granted, now)
            if len(self._left) > self.most:
                keep = sorted(self._left.items(), key=lambda item: item[1][0] + (now - item[1][1]) * self.rate)
                self._left = dict(keep[: self.most // 2])
            return 0.0 if granted else (1.0 - left) / self.rate


class IntakeServer(PageServer):
    """Serves one store; its token stays with the store. ``port`` 0 takes a free one. Raises QI2Error where the address cannot be had."""

    def __init__(self, store: SignalStore, host: str = "127.0.0.1", port: int = 0, origin: str = "", limit: RateLimit | None = None) -> None:
        self.store, self.limit = store, limit or RateLimit()
        self.token = store.ledger.fact("token")
        self.room = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(Handler, host, port, origin, self.token)

    def address(self) -> str:
        """The page's link: with the token, which is needed on loopback too, as other programs of this machine reach it."""
        return f"{super().address().partition('#')[0]}#{self.token}"


class Handler(PageHandler):
    """The one route beside the page. A request costs a place in the rate limit before its token is looked at, and its token before its body is read."""

    package = "qi2.flywheel.intake"
    files = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
    name = "feedback intake"
    sorry = "the feedback could not be stored; send it again"
    max_body = MAX_BODY

    @property
    def intake(self) -> IntakeServer:
        """The server."""
        return cast(IntakeServer, self.server)

    def post(self, path: str) -> None:
        """Take one piece of feedback."""
        if wait := self.intake.limit.wait(self.client_address[0], time.monotonic()):
            self.send_json(429, {"error": "too many requests"}, {"Retry-After": str(int(wait) + 1)})
            return
        self._check_sender()
        if path != "/feedback":
            raise Refused(404, "nothing is here; POST /feedback")
        if not self.intake.room.acquire(timeout=WAIT_S):
            raise Refused(503, "too busy; send it again")
        try:
            self._take(self.body())
        finally:
            self.intake.room.release()

    def _check_sender(self) -> None:
        """The token, and no page of another site: a browser says the page's origin."""
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not same(token, self.intake.token):
            raise Refused(401, "bring the token: Authorization: Bearer TOKEN")
        origin = self.headers.get("Origin")
        if origin is not None and not self.server.door.own(origin, self.headers.get("Host", "")):
            raise Refused(403, "feedback is not taken from other sites' pages")

    def _take(self, row: Any) -> None:
        try:
            said = Feedback.of(row, KEYS)
            references = row.get("references", [])
            if not isinstance(references, list) or len(references) > MOST_REFERENCES:
                raise QI2Error(f"references is a list of at most {MOST_REFERENCES} pictures")
            picture, *sources = [_picture(value, name) for name, value in (("image", row["image"]), *(("a reference", value) for value in references))]
        except QI2Error as error:
            raise Refused(400, str(error)) from error
        receipt = take(self.intake.store, said, picture, sources, {"way": "http"})
        if receipt.deleted:
            raise Refused(410, "this was deleted before and is not taken again")
        self.send_json(201 if receipt.new else 200, {"id": receipt.id, "new": receipt.new})


def _picture(value: Any, what: str) -> Image.Image:
    if not isinstance(value, str):
        raise QI2Error(f"{what} is the picture's file in base64")
    if len(value) > MAX_BYTES * 4 // 3 + 4:
        raise QI2Error(f"{what} has more than {MAX_BYTES} bytes")
    try:
        return decode(base64.b64decode(value, validate=True), what)
    except (binascii.Error, ValueError) as error:
        if isinstance(error, QI2Error):
            raise
        raise QI2Error(f"{what} is no base64") from error
