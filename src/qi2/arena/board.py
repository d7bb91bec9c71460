"""The leaderboard, and what the votes give to the flywheel: preference pairs that the reward models train on."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qi2.arena.entrants import EDIT, Field
from qi2.arena.pairs import comparisons
from qi2.arena.rating import RESAMPLES, Ratings, rate
from qi2.arena.votes import LEFT, PEOPLE, RIGHT, Votes
from qi2.core.publish import publish

FEW_PROMPTS = 10  # below, what was measured of the intervals' coverage does not hold


@dataclass(frozen=True)
class Leaderboard:
    """Ratings by ``suite`` and ``suite/category``; ``stale`` votes are on pictures that no entrant shows any more."""

    by: str
    boards: dict[str, Ratings]
    skipped: int
    stale: int

    def to_json(self) -> dict[str, Any]:
        """The form of ``leaderboard.json`` and of the page."""
        boards = {name: ratings.to_json() for name, ratings in self.boards.items()}
        return {"by": self.by, "skipped": self.skipped, "stale": self.stale, "few_prompts": FEW_PROMPTS, "boards": boards}


def leaderboard(field: Field, rows: Sequence[Mapping[str, Any]], by: str = PEOPLE, seed: int = 0, resamples: int = RESAMPLES) -> Leaderboard:
    """Rate the entrants by the votes of people, or of one judge: the two never mix, nor do generation and editing."""
    mine = [row for row in rows if row["by"] == by]
    counted = comparisons(field, mine)
    groups: dict[str, list[Any]] = {}
    for row, comparison in counted:
        for name in (row["suite"], f"{row['suite']}/{row['category']}"):
            groups.setdefault(name, []).append(comparison)
    skipped = sum(row["choice"] == "skip" for row in mine)
    return Leaderboard(by, {name: rate(groups[name], seed, resamples) for name in sorted(groups)}, skipped, len(mine) - skipped - len(counted))


def lines(board: Leaderboard) -> list[str]:
    """The leaderboard as text."""
    found = [f"votes by {board.by}; {board.skipped} skipped, {board.stale} on pictures that have changed since"]
    for name, ratings in board.boards.items():
        found += ["", f"{name}: {ratings.votes} votes on {ratings.prompts} prompts", f"{'rank':>4} {'Elo':>6} {'95 %':>14} {'score':>6} {'votes':>6}  entrant"]
        found += [f"{r.rank:>4} {r.elo:>6.0f} {f'{r.low:.0f} .. {r.high:.0f}':>14} {r.score:>6.2f} {r.votes:>6}  {r.entrant}" for r in ratings.rows]
        if not ratings.connected:
            found.append("some entrants have not met, not even through others: ratings across such groups say nothing yet")
        if ratings.prompts < FEW_PROMPTS:
            found.append(f"fewer than {FEW_PROMPTS} prompts: the intervals are rough")
    return found if board.boards else [*found, "no vote counts yet"]


def export(field: Field, votes: Votes, out: Path, t2i: str = "alignment", edit: str = "instruction") -> Counter[str]:
    """Publish ``votes.jsonl`` (all, as stored) and ``preferences.jsonl`` (people's decided votes that still count, as `rewards.pairs` reads them).

    ``t2i`` and ``edit`` are the reward dimensions that the preferences train. Returns the number of rows of both.
    """
    rows = list(votes.rows())
    mine = [row for row, _ in comparisons(field, rows) if row["by"] == PEOPLE and row["choice"] in (LEFT, RIGHT)]
    tables = {"votes": rows, "preferences": [_preference(field, row, edit if row["suite"] == EDIT else t2i) for row in mine]}
    with publish(out) as staging:
        for name, table in tables.items():
            (staging / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table), encoding="utf-8")
    return Counter({name: len(table) for name, table in tables.items()})


def _preference(field: Field, row: Mapping[str, Any], dimension: str) -> dict[str, Any]:
    better, worse = (LEFT, RIGHT) if row["choice"] == LEFT else (RIGHT, LEFT)
    task = field.tasks[row["task"]]
    paths = {name: str(field.entrants[row[f"{side}_entrant"]].pictures[task.id].path.resolve()) for name, side in (("better", better), ("worse", worse))}
    source = {"source": [str(picture.path.resolve()) for picture in task.sources]} if task.sources else {}
    made = {"better_entrant": row[f"{better}_entrant"], "worse_entrant": row[f"{worse}_entrant"]}
    kept = {name: row[name] for name in ("category", "voter", "created", "number")}
    return {"prompt": task.prompt, **paths, **source, "dimension": dimension, **made, **kept}
