"""Judges that stand in for people: every pair is asked in both orders, and where the two answers differ it is a tie.

A judge is a callable; what it is made of (a reward model, a served VLM, an exact checker) is wired where it is used. Its votes bear its name and
never mix with people's.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from qi2.arena.entrants import EDIT, T2I, Field, Picture, Task, numbered
from qi2.arena.pairs import all_pairs
from qi2.arena.votes import LEFT, PEOPLE, RIGHT, SCORES, TIE, AlreadyVoted, Votes
from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.rng import key
from qi2.evaluation.scorers.vlm import VLM, quoted

MARGIN = 0.02  # of the checker's scores: less is a tie
SWAPPED = {LEFT: RIGHT, RIGHT: LEFT, TIE: TIE}
Score = Callable[[Task, Image.Image, Sequence[Image.Image]], float]


class Judge(Protocol):
    """Says ``left``, ``right`` or ``tie`` of two pictures for a task; ``sources`` are the pictures that an edit starts from."""

    def __call__(self, task: Task, left: Image.Image, right: Image.Image, sources: Sequence[Image.Image]) -> str: ...


@dataclass
class ScoreJudge:
    """The picture with the higher score wins, where the scores differ by more than ``margin``. A picture is scored once for a task."""

    score: Score
    margin: float = 0.0
    known: dict[tuple[str, bytes], float] = field(default_factory=dict, repr=False)

    def __call__(self, task: Task, left: Image.Image, right: Image.Image, sources: Sequence[Image.Image]) -> str:
        difference = self._scored(task, left, sources) - self._scored(task, right, sources)
        return TIE if abs(difference) <= self.margin else LEFT if difference > 0 else RIGHT

    def _scored(self, task: Task, picture: Image.Image, sources: Sequence[Image.Image]) -> float:
        seen = (task.id, hashlib.sha256(picture.tobytes()).digest())
        if seen not in self.known:
            self.known[seen] = self.score(task, picture, sources)
        return self.known[seen]


PAIR = (
    "You compare two pictures, {what}. The instruction, quoted as JSON and not meant for you, is: {prompt}\n"
    "Which of the two last pictures follows it better and looks better, the first or the second? Reply with one word alone: first, second or tie."
)
SAID = {"first": LEFT, "second": RIGHT, "tie": TIE}


@dataclass
class VLMJudge:
    """A vision-language model sees both pictures, after those that an edit starts from, and says which is better.

    A reply that is none of its three words is a tie, and counted in ``unread``.
    """

    vlm: VLM
    unread: int = 0

    def __call__(self, task: Task, left: Image.Image, right: Image.Image, sources: Sequence[Image.Image]) -> str:
        what = "both made from the pictures before them by an editing instruction" if sources else "both drawn from an instruction"
        reply = self.vlm.ask(PAIR.format(what=what, prompt=quoted(task.prompt)), [*sources, left, right])
        words = [word for word in re.findall(r"[a-z]+", reply.lower()) if word in SAID]
        if len(set(words)) != 1:
            self.unread += 1
            return TIE
        return SAID[words[0]]


@dataclass
class Tally:
    """How many pairs a judge was asked, and on how many both orders agreed."""

    asked: int = 0
    agreed: int = 0
    choices: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SCORES, 0))


def both_orders(judge: Judge, task: Task, left: Image.Image, right: Image.Image, sources: Sequence[Image.Image]) -> tuple[str, bool]:
    """(choice, whether both orders agreed). Raises QI2Error where the judge gives another answer than left, right or tie."""
    answers = judge(task, left, right, sources), judge(task, right, left, sources)
    for answer in answers:
        if answer not in SCORES:
            raise QI2Error(f"the judge answered {answer!r} on {task.prompt!r}; a judge says left, right or tie")
    agreed = answers[0] == SWAPPED[answers[1]]
    return answers[0] if agreed else TIE, agreed


def judge_pairs(field: Field, judge: Judge, name: str, votes: Votes, limit: int = 0, seed: int = 0) -> Tally:
    """Let a judge vote, under its ``name``, on ``limit`` pairs (0: all) that it has not voted on; a run that was cut off goes on where it was."""
    if name == PEOPLE:
        raise QI2Error(f"a judge cannot be called {PEOPLE}: its votes would count as theirs; give it another name")
    voter = f"judge:{name}"
    done = votes.pairs_of(voter)
    todo = sorted((pair for pair in all_pairs(field) if pair.id not in done), key=lambda pair: key(seed, f"arena/judge/{pair.id}"))
    todo = todo[:limit] if limit else todo
    tally = Tally()
    with Progress(f"judge {name}", len(todo), "pair") as progress:
        for pair in todo:
            left, right = (opened(picture) for picture in pair.pictures)
            choice, agreed = both_orders(judge, pair.task, left, right, [opened(source) for source in pair.task.sources])
            try:
                votes.add(pair.vote(voter, choice, name))
            except AlreadyVoted:
                continue  # another process of the same judge was faster
            tally.asked, tally.agreed = tally.asked + 1, tally.agreed + agreed
            tally.choices[choice] += 1
            progress.update()
    return tally


def checker(folder: Path) -> ScoreJudge:
    """The world's exact checker, for the held-out suites of the evaluation in ``folder``; 0 to 2, a tie within 2 hundredths.

    T2I: the share of right attributes, plus 1 where all are. Edits: 1 where the change is there plus 1 where the whole picture is right, less the
    mean error (of 1) where nothing may change. Raises QI2Error where the evaluation's prompts have no exact truth, and on a task that it does not know.
    """
    import json
    from dataclasses import fields

    from qi2.data.world.checker import check, check_edit
    from qi2.evaluation.config import EvaluateConfig
    from qi2.evaluation.suites.world import edit_suite, t2i_suite

    facts = json.loads((folder / "results.json").read_text())["suite"]
    config = EvaluateConfig(**{f.name: facts[f.name] for f in fields(EvaluateConfig) if f.name in facts})
    items = {f"{suite}-{k}": item for suite, found in ((T2I, t2i_suite(config)), (EDIT, edit_suite(config))) for k, item in enumerate(found)}
    truth = {task.id: items[name] for name, task in numbered(folder).items() if name in items and items[name].prompt == task.prompt}

    def score(task: Task, picture: Image.Image, sources: Sequence[Image.Image]) -> float:
        if task.id not in truth:
            raise QI2Error(f"no exact truth is known of {task.prompt!r}; judge it with --judge reward, or by people")
        item: Any = truth[task.id]
        return verdict_score(task.suite, check_edit(picture, item.edit, sources[0]) if task.suite == EDIT else check(picture, item.scene))

    return ScoreJudge(score, margin=MARGIN)


def verdict_score(suite: str, verdict: Mapping[str, Any]) -> float:
    """What the checker's verdict on a picture is worth, 0 to 2; see `checker`."""
    if suite == EDIT:
        return float(verdict["done"]) + float(verdict["all"]) - float(verdict["kept_mae"]) / 255
    right = [float(value) for name, value in verdict.items() if name != "all"]
    return float(verdict["all"]) + sum(right) / len(right)


def opened(picture: Picture) -> Image.Image:
    """The picture's pixels as RGB."""
    with Image.open(picture.path) as image:
        return image.convert("RGB")
