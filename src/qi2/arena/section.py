"""The report's section on the arena: ratings by people and by judges, apart; without people, what the exact checker's verdicts would give."""

import itertools
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from qi2.arena.board import FEW_PROMPTS, leaderboard
from qi2.arena.entrants import SUITES, load
from qi2.arena.judge import MARGIN, verdict_score
from qi2.arena.rating import Comparison, Ratings, rate
from qi2.arena.votes import PEOPLE, Votes
from qi2.core.errors import QI2Error
from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.charts import whisker
from qi2.evaluation.models import LABELS
from qi2.evaluation.report_html import missing, table
from qi2.evaluation.run_folder import RunFolder

ANCHOR, TITLE = "arena", "Arena"
SPREAD = 10.0  # Elo that a drawing's scale leaves on both sides
TASKS = {"t2i": "text to image", "edit": "editing"}
INTRO = (
    "<p>Bradley-Terry ratings from blind pairs, on the Elo scale with mean 1000; 95% intervals over prompts. A rank is 1 + the number of those that are better "
    "beyond chance. People and judges never mix.</p>"
)
CHECKED = (
    "No person has voted on this run (<code>make arena</code> opens the page for it). This board is no preference of anybody: every pair of models on every "
    "prompt of the exam, won by the picture of which the exact checker finds more right, a tie where it finds as much."
)


def section(run: RunFolder, votes: Path) -> tuple[str, str, str]:
    """(anchor, title, HTML). ``votes``: the file of this run's votes, which need not be there."""
    if not run.results:
        return ANCHOR, TITLE, missing("Ratings", "evaluate")
    rows = list(Votes(votes).rows()) if votes.exists() else []
    voters = sorted({str(row["by"]) for row in rows}, key=lambda name: (name != PEOPLE, name))
    boards = "".join(_voted(run, rows, by) for by in voters)
    return ANCHOR, TITLE, INTRO + boards + ("" if PEOPLE in voters else _checked(run.results))


def _voted(run: RunFolder, rows: Sequence[Mapping[str, Any]], by: str) -> str:
    """What people or one judge think of the models of this run."""
    title = "<h3>People</h3>" if by == PEOPLE else f"<h3>Judge: {escape(by)}</h3>"
    try:
        board = leaderboard(load([str(run.path)]), rows, by)
    except QI2Error as error:
        return f'{title}<p class="missing">{escape(str(error))}</p>'
    if not board.boards:
        return f'{title}<p class="missing">No vote counts: all {board.stale} are on pictures that have changed since.</p>'
    whole = "".join(_board(TASKS[name], board.boards[name]) for name in SUITES if name in board.boards)
    parts = "".join(_board(f"{TASKS[name.partition('/')[0]]}, {name.partition('/')[2]}", found) for name, found in board.boards.items() if "/" in name)
    stale = f"<p>{board.stale} votes are on pictures that have changed since and do not count.</p>" if board.stale else ""
    return f"{title}{stale}{whole}<details><summary>By category</summary>{parts}</details>"


def _checked(results: Mapping[str, Any]) -> str:
    """A board of the verdicts that the evaluation has anyway; nothing where no exact checker knows the prompts."""
    made = []
    for suite in SUITES:
        rows = {model: found for model, found in results[suite]["results"].items() if found and "all" in found[0]}
        scores = {model: [verdict_score(suite, row) for row in found] for model, found in rows.items()}
        compared = [
            Comparison(one, other, _won(a, b), item["id"])
            for one, other in itertools.combinations(scores, 2)
            for item, a, b in zip(results[suite]["items"], scores[one], scores[other], strict=True)
        ]
        made += [_board(TASKS[suite], rate(compared), "pairs")] if compared else []
    return f'<h3>Exact checker, in place of people</h3><p class="note">{CHECKED}</p>{"".join(made)}' if made else ""


def _won(a: float, b: float) -> float:
    return 0.5 if abs(a - b) <= MARGIN else float(a > b)


def _board(name: str, ratings: Ratings, counted: str = "votes") -> str:
    """Best first, with intervals drawn on one scale."""
    ends = [end for row in ratings.rows for end in (row.low, row.high, row.elo) if abs(end) != float("inf")]
    low, high = min(ends) - SPREAD, max(ends) + SPREAD
    rows = []
    for row in ratings.rows:
        interval = "cannot be said" if abs(row.low) == float("inf") else f"<small>[{row.low:.0f}, {row.high:.0f}]</small>"
        drawn = whisker(Figure(row.elo, max(row.low, low), min(row.high, high), row.votes), low, high)
        rows.append([str(row.rank), escape(LABELS.get(row.entrant, row.entrant)), f"{row.elo:.0f} {interval}", drawn, f"{row.score:.2f}", str(row.votes)])
    notes = [] if ratings.connected else ["Some have not met, not even through others: ratings across such groups say nothing yet."]
    notes += [f"Fewer than {FEW_PROMPTS} prompts: the intervals are rough."] if ratings.prompts < FEW_PROMPTS else []
    head = ["rank", "model", "Elo", f"{low:.0f} … {high:.0f}", "mean score", counted]
    title = f"<h3>{escape(name)}: {ratings.votes} {counted} on {ratings.prompts} prompts</h3>"
    return title + table(head, rows, right=(0, 4, 5)) + "".join(f"<p>{note}</p>" for note in notes)
