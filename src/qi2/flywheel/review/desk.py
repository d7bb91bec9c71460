"""What a reviewer sees and may do: the next candidate with all that is known of it, a decision, and taking it back. Knows nothing of HTTP."""

from typing import Any

from qi2.core.door import Refused, Signer, same
from qi2.core.errors import QI2Error
from qi2.data.world.checker import check, check_edit
from qi2.data.world.edits import Edit
from qi2.data.world.scene import Scene
from qi2.flywheel.review.candidate import Candidate
from qi2.flywheel.review.queue import AlreadyDecided, ReviewQueue

SHOWN = 8  # neighbours


class Desk:
    """One queue and its reviewers. ``by`` is who serves the page; a decision's reviewer is that name and the browser's own id."""

    def __init__(self, queue: ReviewQueue, by: str) -> None:
        self.queue, self.by = queue, by
        self.signer = Signer(queue.ledger.fact("page"))

    def reviewer(self, visitor: str) -> str:
        """Under which name a visitor's decisions are kept."""
        return f"{self.by}/{visitor[:8]}"

    def next(self, visitor: str, after: str = "", step: int = 1) -> dict[str, Any]:
        """The first candidate that waits, or the nearest one after (``step`` -1: before) ``after``, round the end; without a ticket when none is left."""
        waiting, place = self.queue.waiting(), self.queue.number(after) if after else 0
        names = list(waiting)
        beyond = [name for name in names if (waiting[name] - place) * step > 0]
        ordered = (beyond or names)[::step]
        return self.show(visitor, ordered[0]) if ordered else self.queue.progress()

    def show(self, visitor: str, id: str) -> dict[str, Any]:
        """A candidate by its id, as after an undo."""
        found = self.queue.find(id)
        if found is None:
            raise Refused(404, "this candidate is gone")
        return {**self._shown(visitor, found), **self.queue.progress()}

    def decide(self, visitor: str, body: Any) -> dict[str, Any]:
        """Store ``{"ticket", "verdict", "prompt"?, "why"?}``. Raises Refused: 400 malformed, 403 another's ticket, 409 decided before, 410 gone."""
        if not isinstance(body, dict) or not {"ticket", "verdict"} <= body.keys() <= {"ticket", "verdict", "prompt", "why"}:
            raise Refused(400, "a decision is an object of the texts ticket and verdict, and where needed prompt and why")
        if not all(isinstance(value, str) for value in body.values()):
            raise Refused(400, "ticket, verdict, prompt and why are texts")
        id, _, signature = body["ticket"].rpartition(".")
        if not same(signature, self.signer.sign("ticket", visitor, id)):
            raise Refused(403, "this ticket was not given to you")
        if self.queue.find(id) is None:
            raise Refused(410, "this candidate is gone")
        try:
            self.queue.decide(id, body["verdict"], body.get("prompt", ""), self.reviewer(visitor), body.get("why", ""))
        except AlreadyDecided as error:
            raise Refused(409, str(error)) from error
        except QI2Error as error:
            if isinstance(error.__cause__, Exception):  # the file, not the decision
                raise
            raise Refused(400, str(error)) from error
        return self.queue.progress()

    def undo(self, visitor: str) -> dict[str, Any]:
        """Take back this visitor's last decision and show its candidate again. Raises Refused (404) where there is none."""
        id = self.queue.undo(self.reviewer(visitor))
        if not id:
            raise Refused(404, "there is no decision of yours to undo")
        return self.show(visitor, id)

    def picture(self, sha256: str) -> bytes:
        """A picture of the queue as PNG. Raises Refused (404) for any other."""
        try:
            return self.queue.pictures.data(sha256)
        except QI2Error as error:
            raise Refused(404, "no such picture") from error

    def _shown(self, visitor: str, one: Candidate) -> dict[str, Any]:
        origin = {name: value for name, value in one.origin.items() if name != "neighbours"}
        return {
            "ticket": f"{one.id}.{self.signer.sign('ticket', visitor, one.id)}",
            "id": one.id,
            "task": one.task,
            "prompt": one.prompt,
            "target": one.target,
            "references": list(one.references),
            "origin": {**self.queue.batch(one.id), **origin},
            "neighbours": [dict(near) for near in one.neighbours[:SHOWN]],
            "checks": checks(self.queue, one),
        }


def checks(queue: ReviewQueue, one: Candidate) -> dict[str, Any]:
    """What the exact checker says of the target by its truth: {attribute: bool}; empty where no truth is known or it is not one of the world's."""
    if not one.truth:
        return {}
    target = queue.picture(one.target)
    try:
        if one.task == "t2i":
            return {name: bool(value) for name, value in check(target, Scene.from_json(one.truth)).items()}
        source = queue.picture(one.references[0])
        found = check_edit(target, Edit.from_json(one.truth), source)
        return {"done": bool(found["done"]), "all": bool(found["all"]), "left alone": float(found["kept_mae"]) < 1}
    except (QI2Error, ValueError, KeyError, TypeError, IndexError):
        return {"readable": False}
