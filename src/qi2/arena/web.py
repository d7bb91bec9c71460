"""The page on which people vote (`core.web`, `core.door`: who may come in): pairs, pictures, votes and the leaderboard."""

from typing import cast

from qi2.arena.booth import Booth
from qi2.core.door import Refused
from qi2.core.web import PageHandler, PageServer

COOKIE = "qi2_voter"


class ArenaServer(PageServer):
    """Serves one arena; ``port`` 0 takes a free one. Raises QI2Error where the address cannot be had."""

    def __init__(self, booth: Booth, host: str = "127.0.0.1", port: int = 0, origin: str = "") -> None:
        self.booth = booth
        super().__init__(Handler, host, port, origin, booth.votes.fact("invitation"))


class Handler(PageHandler):
    """The arena's routes. Votes come with a ticket, from the arena's own page."""

    package = "qi2.arena"
    files = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js", "/leaderboard.js": "leaderboard.js"}
    name = "arena"
    sorry = "the vote could not be stored; try again"

    @property
    def booth(self) -> Booth:
        """The arena."""
        return cast(ArenaServer, self.server).booth

    def get(self, path: str) -> None:
        """A pair, a picture, or the leaderboard."""
        if path == "/pair":
            self.send_json(200, self.booth.next(self._voter()))
        elif path == "/leaderboard":
            self.send_json(200, self.booth.board(self._voter()))
        elif path.startswith("/picture/"):
            self._voter()
            self.send(200, self.booth.picture(path.removeprefix("/picture/")), "image/png", {"Cache-Control": "private, max-age=86400, immutable"})
        else:
            raise Refused(404, "nothing is here")

    def post(self, path: str) -> None:
        """A new voter, or a vote."""
        self.own_page()
        body = self.body()
        if path == "/vote":
            self.send_json(201, self.booth.vote(self._voter(), body))
        elif path == "/voter":
            voter, remember = self.welcome(self.booth.signer, COOKIE, body)
            self.send_json(200, self.booth.standing(voter), remember)
        else:
            raise Refused(404, "nothing is here")

    def _voter(self) -> str:
        return self.visitor(self.booth.signer, COOKIE)
