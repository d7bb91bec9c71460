"""Lost pairs of the arena. People's votes and judges' are told apart: the former are signals of ``votes``, the latter of ``mining``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from qi2.arena.board import leaderboard
from qi2.arena.entrants import EDIT, Field, Picture
from qi2.arena.pairs import comparisons
from qi2.arena.votes import PEOPLE
from qi2.flywheel.signals import Signal
from qi2.flywheel.store import SignalStore


@dataclass(frozen=True)
class VoteSettings:
    """An entrant has lost a prompt where its score over at least ``least`` votes there (win 1, tie 0.5) is below ``lost``.

    Where its rating in the prompt's category is ``far`` Elo below the best, and ranked below it beyond chance, one lost vote is enough. Ours.
    """

    least: int = 3
    lost: float = 0.5
    far: float = 200.0


@dataclass
class Count:
    """What an entrant got on one prompt from one kind of voter."""

    wins: float = 0.0
    votes: int = 0
    against: dict[str, int] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)


Place = tuple[str, str]  # entrant, task's id


def lost_votes(
    arena: Field, rows: Sequence[Mapping[str, Any]], store: SignalStore, settings: VoteSettings, truths: Mapping[str, str] | None = None,
    heldout: bool = True,
) -> list[Signal]:  # fmt: skip
    """One signal per entrant and prompt that was lost, by people and by judges apart. Votes on pictures that have changed since do not count.

    ``rows``: as `Votes.rows` has them; ``truths``: {task's id: JSON of its Scene or Edit}. ``heldout``: whether the arena's prompts are a suite's that
    measures, as an evaluation's are; say False only of prompts that nothing is measured on.
    """
    signals = []
    for source, group in (("votes", [PEOPLE]), ("mining", sorted({str(row["by"]) for row in rows} - {PEOPLE}))):
        found: dict[Place, dict[str, Any]] = {}
        for by in group:
            for place, verdict in _lost(arena, rows, by, settings).items():
                found.setdefault(place, {})[by] = verdict
        signals += [_signal(arena, source, place, verdict, store, truths or {}, heldout) for place, verdict in sorted(found.items())]
    return signals


def _lost(arena: Field, rows: Sequence[Mapping[str, Any]], by: str, settings: VoteSettings) -> dict[Place, dict[str, Any]]:
    mine = [row for row in rows if row["by"] == by]
    counts: dict[Place, Count] = {}
    for row, comparison in comparisons(arena, mine):
        for entrant, other, score in ((comparison.first, comparison.second, comparison.score), (comparison.second, comparison.first, 1 - comparison.score)):
            count = counts.setdefault((entrant, str(row["task"])), Count())
            count.wins, count.votes = count.wins + score, count.votes + 1
            count.against[other] = count.against.get(other, 0) + 1
            count.numbers.append(int(row["number"]))
    behind = _behind(arena, mine, by)
    found = {}
    for (entrant, task), count in counts.items():
        gap = behind.get((entrant, f"{arena.tasks[task].suite}/{arena.tasks[task].category}"), 0.0)
        if count.wins / count.votes < settings.lost and (count.votes >= settings.least or gap >= settings.far):
            found[entrant, task] = {"score": count.wins / count.votes, "votes": count.votes, "against": count.against, "behind": gap, "numbers": count.numbers}
    return found


def _behind(arena: Field, rows: Sequence[Mapping[str, Any]], by: str) -> dict[tuple[str, str], float]:
    """{(entrant, suite/category): Elo points behind the best}, where it is ranked below beyond chance."""
    found = {}
    for name, ratings in leaderboard(arena, rows, by).boards.items():
        for row in ratings.rows:
            if row.rank > 1:
                found[row.entrant, name] = ratings.rows[0].elo - row.elo
    return found


def _signal(
    arena: Field, source: str, place: Place, verdict: Mapping[str, Any], store: SignalStore, truths: Mapping[str, str], heldout: bool
) -> Signal:  # fmt: skip
    entrant, name = place
    task, picture = arena.tasks[name], arena.entrants[entrant].pictures[name]
    kind, form = (f"edit/{task.category}", "ti2i") if task.suite == EDIT else (task.category, "t2i")
    where = {"task": name, "shown": picture.sha256, "entrant": entrant}
    references = tuple(_kept(store, source_picture) for source_picture in task.sources)
    return Signal(
        source, form, kind, task.prompt, entrant, {"votes": dict(verdict)}, truths.get(name, ""), _kept(store, picture), references, 0, where, heldout=heldout
    )


def _kept(store: SignalStore, picture: Picture) -> str:
    with Image.open(picture.path) as image:
        return store.keep(image)


def arena_truths(evaluation: Any) -> dict[str, str]:
    """{task's id: truth} of an `Evaluated` whose samples are in the arena."""
    from qi2.arena.entrants import numbered
    from qi2.evaluation.suites.world import remade

    t2i, edits = remade(evaluation.results["suite"], str(evaluation.folder))
    truths = {f"t2i-{k}": item.scene.to_json() for k, item in enumerate(t2i)} | {f"edit-{k}": edit.edit.to_json() for k, edit in enumerate(edits)}
    return {task.id: truths[name] for name, task in numbered(evaluation.folder).items() if name in truths}
