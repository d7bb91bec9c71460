"""What a voter may see and do: blind pairs, one vote on each, and the leaderboard after enough of them. Knows nothing of HTTP.

A voter is a random cookie that the vote file's key signs. A ticket names the two pictures that this voter was shown, and is signed with the voter: it
cannot be used by another voter, made up, or turned around; it is also what another site cannot know. Both stay valid when the server is restarted.
"""

import hashlib
import hmac
import io
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from PIL import Image

from qi2.arena.board import leaderboard
from qi2.arena.entrants import Entrant, Field, Picture
from qi2.arena.pairs import Draw, Pair
from qi2.arena.votes import CHOICES, PEOPLE, SCORES, AlreadyVoted, Votes
from qi2.core.door import Refused, Signer
from qi2.core.pictures import png

OPEN_AFTER = 10  # votes after which a voter sees the leaderboard; ours
GROWTH = 0.02  # share of new votes after which drawing and leaderboard look at them
CACHED = 64  # encoded pictures in memory; of 2048 pixels about 6 MB each


class Booth:
    """One arena: its entrants, its votes, and the rules."""

    def __init__(self, field: Field, votes: Votes, open_after: int = OPEN_AFTER, seed: int = 0) -> None:
        self.field, self.votes, self.open_after, self.seed = field, votes, open_after, seed
        self.signer = Signer(votes.fact("key"))
        self._draw, self._drawing, self._rating = Draw(field, seed), threading.Lock(), threading.Lock()
        self._board: dict[str, Any] = {}
        self._looked = {"draw": -1, "board": -1}
        self._pictures = self._named_pictures()
        self._encoded = lru_cache(CACHED)(encode)

    def standing(self, voter: str) -> dict[str, int]:
        """How often a voter has chosen, and when the leaderboard opens."""
        return self._counts(self.votes.pairs_of(voter))

    def next(self, voter: str) -> dict[str, Any]:
        """The pair to look at: its ticket, prompt and opaque names of pictures; without a ticket when the voter has seen all."""
        done = self.votes.pairs_of(voter)
        pair = self._drawn(voter, done)
        if pair is None:
            return self._counts(done)
        task = pair.task
        left, right = self._names(pair)
        shown = {"suite": task.suite, "prompt": task.prompt, "sources": [self._name(source) for source in task.sources], "left": left, "right": right}
        return {"ticket": self._ticket(voter, task.id, left, right), **shown, **self._counts(done)}

    def vote(self, voter: str, body: Any) -> dict[str, int]:
        """Store a vote ``{"ticket", "choice"}``. Raises Refused: 400 malformed, 403 another's ticket, 409 a second vote, 410 pictures that are gone."""
        if not isinstance(body, dict) or body.keys() != {"ticket", "choice"} or not all(isinstance(value, str) for value in body.values()):
            raise Refused(400, "a vote is an object of the texts ticket and choice")
        if body["choice"] not in CHOICES:
            raise Refused(400, f"the choice is one of {', '.join(CHOICES)}")
        pair = self._paired(voter, body["ticket"])
        try:
            self.votes.add(pair.vote(voter, body["choice"], PEOPLE))
        except AlreadyVoted as error:
            raise Refused(409, "you have voted on this pair; your first vote stands") from error
        return self.standing(voter)

    def board(self, voter: str) -> dict[str, Any]:
        """The leaderboard. Raises Refused (403) until the voter has chosen often enough: who knows the standing no longer votes blind."""
        done = self.votes.pairs_of(voter)
        votes = self._counts(done)["votes"]
        if votes < self.open_after and self._drawn(voter, done) is not None:
            raise Refused(403, f"The leaderboard opens after {self.open_after} votes of yours; so far {votes}.")
        with self._rating:
            if self._due("board"):
                self._board = leaderboard(self.field, list(self.votes.rows()), seed=self.seed).to_json()
            return self._board

    def picture(self, name: str) -> bytes:
        """A picture by its opaque name, as PNG. Raises Refused: 404 unknown, 410 no longer the file that a vote would be stored with."""
        if name not in self._pictures:
            raise Refused(404, "no such picture")
        return self._encoded(self._pictures[name][0])

    def _counts(self, done: Mapping[str, str]) -> dict[str, int]:
        return {"votes": sum(choice in SCORES for choice in done.values()), "open_after": self.open_after}

    def _due(self, what: str) -> bool:
        """Whether votes have grown enough since the last look; a reload shows the same pair in between."""
        count, before = self.votes.count(), self._looked[what]
        if before < 0 or count > before * (1 + GROWTH):
            self._looked[what] = count
            return True
        return False

    def _drawn(self, voter: str, done: Mapping[str, str]) -> Pair | None:
        with self._drawing:
            if self._due("draw"):
                self._draw.update([row for row in self.votes.rows() if row["by"] == PEOPLE])
            return self._draw.pair(voter, done)

    def _named_pictures(self) -> dict[str, tuple[Picture, Entrant | None]]:
        """Entrants' pictures and sources under their opaque names."""
        found: dict[str, tuple[Picture, Entrant | None]] = {self._name(source): (source, None) for task in self.field.tasks.values() for source in task.sources}
        for entrant in self.field.entrants.values():
            found |= {self._name(picture, entrant.name): (picture, entrant) for picture in entrant.pictures.values()}
        return found

    def _name(self, picture: Picture, owner: str = "") -> str:
        return self.signer.sign("picture", owner, picture.sha256)

    def _names(self, pair: Pair) -> tuple[str, str]:
        left, right = pair.pictures
        return self._name(left, pair.left.name), self._name(right, pair.right.name)

    def _ticket(self, voter: str, task: str, left: str, right: str) -> str:
        return ".".join((task, left, right, self.signer.sign("ticket", voter, task, left, right)))

    def _paired(self, voter: str, ticket: str) -> Pair:
        """The pair of a ticket that this voter was given."""
        parts = ticket.split(".")
        if len(parts) != 4:
            raise Refused(400, "this is no ticket")
        if not hmac.compare_digest(self._ticket(voter, *parts[:3]).encode(), ticket.encode()):
            raise Refused(403, "this ticket was not given to you")
        task, (_, left), (_, right) = self.field.tasks.get(parts[0]), *(self._pictures.get(name, (None, None)) for name in parts[1:3])
        if task is None or left is None or right is None:
            raise Refused(410, "these pictures are no longer in the arena")
        return Pair(task, left, right)


def encode(picture: Picture) -> bytes:
    """Nothing but pixels: upright, over white, without text, profile or time, so that the file does not tell who made it."""
    try:
        content = picture.path.read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != picture.sha256:
        raise Refused(410, "this picture has changed since the arena was opened; open it again")
    with Image.open(io.BytesIO(content)) as image:
        return png(image)
