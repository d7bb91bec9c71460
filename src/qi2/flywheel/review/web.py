"""The page on which people review candidates (`core.web`, `core.door`: who may come in)."""

from typing import cast

from qi2.core.door import Refused
from qi2.core.web import PageHandler, PageServer
from qi2.flywheel.review.desk import Desk
from qi2.flywheel.review.queue import ReviewQueue

COOKIE = "qi2_reviewer"


class ReviewServer(PageServer):
    """Serves one queue; ``port`` 0 takes a free one. Raises QI2Error where the address cannot be had."""

    def __init__(self, queue: ReviewQueue, host: str = "127.0.0.1", port: int = 0, origin: str = "", by: str = "reviewer") -> None:
        self.desk = Desk(queue, by)
        super().__init__(Handler, host, port, origin, queue.ledger.fact("invitation"))


class Handler(PageHandler):
    """The desk's routes. Decisions come with a ticket, from the page itself."""

    package = "qi2.flywheel.review"
    files = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
    name = "review"
    sorry = "the decision could not be stored; try again"
    max_body = 1 << 17

    @property
    def desk(self) -> Desk:
        """The queue with its rules."""
        return cast(ReviewServer, self.server).desk

    def get(self, path: str) -> None:
        """The next candidate, or a picture."""
        visitor = self.visitor(self.desk.signer, COOKIE)
        if path == "/next":
            self.send_json(200, self.desk.next(visitor))
        elif path.startswith("/picture/"):
            self.send(200, self.desk.picture(path.removeprefix("/picture/")), "image/png", {"Cache-Control": "no-store"})  # what is erased stays in no cache
        else:
            raise Refused(404, "nothing is here")

    def post(self, path: str) -> None:
        """A new visitor, a step to another candidate, a decision, or taking one back."""
        self.own_page()
        body = self.body()
        if path == "/visitor":
            _, remember = self.welcome(self.desk.signer, COOKIE, body)
            self.send_json(200, self.desk.queue.progress(), remember)
            return
        visitor = self.visitor(self.desk.signer, COOKIE)
        if path == "/decide":
            self.send_json(201, self.desk.decide(visitor, body))
        elif path == "/undo":
            self.send_json(200, self.desk.undo(visitor))
        elif path == "/step":
            self.send_json(200, self._step(visitor, body))
        else:
            raise Refused(404, "nothing is here")

    def _step(self, visitor: str, body: object) -> dict[str, object]:
        """``{"after": id, "step": 1 or -1}``."""
        if not isinstance(body, dict) or not isinstance(body.get("after"), str) or body.get("step") not in (1, -1):
            raise Refused(400, "a step says after which candidate, and 1 or -1")
        return self.desk.next(visitor, body["after"], body["step"])
