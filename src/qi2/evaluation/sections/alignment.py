"""Reward models, what reinforcement learning changed (report 4.2), and the few-step student (report 4.3)."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.charts import line_chart, short, whisker
from qi2.evaluation.models import LABELS
from qi2.evaluation.report_html import missing, number, picture, table
from qi2.evaluation.run_folder import RunFolder, read_json
from qi2.evaluation.sections.chain import by_kind, grid, measure, measured
from qi2.evaluation.summary import rewards_of

FEW_STEP = ("teacher", "distill", "teacher_4step", "untrained_4step")
PROMPTS = 6  # shown beside each other


def rewards(run: RunFolder) -> str:
    """The reward models on held-out pairs, with the sheet of pairs that the stage has drawn."""
    figures = rewards_of(run)
    names = [name.removesuffix("/accuracy") for name in figures if name.endswith("/accuracy")]
    if not names:
        return missing("Reward models", "rewards")
    rows = []
    for name in names:
        figure, decoded = figures[f"{name}/accuracy"], figures.get(f"{name}/accuracy_decoded")
        others = [number(figures.get(f"{name}/{key}")) for key in ("ceiling", "of_ceiling", "calibration_error")]
        rows.append([name.split("/")[1], *measured(figure, 0.5), *others, number(decoded), str(figure.n or "–")])
    note = (
        "<p>How often each model prefers the picture of a held-out pair that its label prefers. The labels are noisy: the ceiling is what "
        "the truth itself reaches. Then the calibration error of its probabilities, and the accuracy on the same pairs through the VAE.</p>"
    )
    head = ["reward", "accuracy", "0.5 … 1", "ceiling", "of the ceiling", "calibration error", "through the VAE", "prompts"]
    sheet = run.path / "rewards" / "pairs.png"
    shown = f'<div class="wide">{picture(sheet, alt="held-out pairs with their scores", longest=2000)}</div>' if sheet.exists() else ""
    return note + table(head, rows, right=(7,)) + shown


def gain(run: RunFolder) -> str:
    """Paired difference of RL and its start, over all prompts and by kind."""
    if "rl/clip_gain" in run.figures:
        figure = run.figures["rl/clip_gain"]
        return f"<p>CLIP cosine of RL minus SFT on the same captions and noise: {number(figure, 4, sign=True)}, n = {figure.n}.</p>"
    if "rl/gain" not in run.figures:
        return missing("Gains of reinforcement learning", "rlhf")
    prefix = "rl/gain_by_kind/"
    gains = [("all", run.figures["rl/gain"])]
    gains += [(key.removeprefix(prefix), figure) for key, figure in run.figures.items() if key.startswith(prefix)]
    low, high = _scale([figure for _, figure in gains])
    rows = [[name, number(f, 3, sign=True), whisker(f, low, high, 300), str(f.n)] for name, f in gains]
    note = (
        "<p>Paired difference of prompts fully right between RL and SFT: the same prompts, the same noise, the same sampler. "
        "An interval that contains zero shows no effect.</p>"
    )
    return note + table(["prompts", "RL − SFT", f"{low:+.1f} … {high:+.1f}", "n"], rows)


def _scale(figures: Sequence[Figure]) -> tuple[float, float]:
    """A symmetric range in whole tenths that holds every interval."""
    reach = max(abs(end) for figure in figures for end in (figure.low, figure.high))
    tenths = max(1, min(10, int(-(-reach * 10 // 1))))
    return -tenths / 10, tenths / 10


def watched(run: RunFolder) -> str:
    """What the held-out judge saw while RL went on: the reward against the truth, what was left of diversity, and the same prompts over steps."""
    found = read_json(run.path / "rlhf" / "judgements.json", {})
    judged = found.get("judgements", [])
    if not judged:
        unwatched = "<p>No judge watched this run: <code>rlhf.judge.every</code> is 0.</p>"
        return unwatched if run.has("rlhf") else missing("Judgements of a held-out judge", "rlhf")
    shown = ("judge/truth", "judge/reward", "judge/diversity", "judge/kl")
    series = {name: [(row["step"], row[name]) for row in judged if name in row] for name in sorted({name for row in judged for name in row} - {"step"})}
    charts, more = (
        "".join(f"<div>{line_chart(name.removeprefix('judge/'), {name: points})}</div>" for name, points in series.items() if (name in shown) == first)
        for first in (True, False)
    )
    best = run.metrics("rlhf").get("rlhf/best_step", judged[-1]["step"])
    end = f"It ended early: {escape(found['ended'])}." if found.get("ended") else "It went on to its last step."
    note = (
        "<p>The same held-out prompts with the same noise. <b>truth</b> is a judge that is not in the reward; <b>reward</b> the composite in units of its "
        f"spread at the start. A reward that rises while the truth falls is being cheated. {end} Handed on: the policy of step {best:g}.</p>"
    )
    sheets = sorted((run.path / "rlhf" / "images").glob("*@*.png"), key=lambda path: int(path.stem.split("@")[1]))
    pictures = "".join(
        picture(
            path,
            caption=f"step {path.stem.split('@')[1]}: before RL, and below it now (above both the source, for an edit)",
            alt="the same prompts",
            longest=2000,
        )
        for path in sheets
    )
    fold = f'<details><summary>Single rewards, weights and kinds</summary><div class="charts">{more}</div></details>'
    return f'{note}<div class="charts">{charts}</div>{fold}<div class="wide">{pictures}</div>'


def distillation(run: RunFolder) -> str:
    """The 4-step student beside the many-step teacher, the teacher at 4 steps, and the untrained 4-step sampler."""
    prefix, label, low, high = measure(run)
    models = [name for name in FEW_STEP if f"{prefix}/{name}" in run.figures]
    if "distill" not in models:
        return missing("The few-step student", "distill")
    rows = [[LABELS[m], *_effort(run.results["models"][m]), *measured(run.figures[f"{prefix}/{m}"], low, high)] for m in models]
    head = ["sampler", "steps", "guidance", "evaluations", "images / s", label, f"{low:.2g} … {high:.2g}"]
    retained = ""
    if "distill/retention" in run.figures:
        retained = f"<p>The student keeps {number(run.figures['distill/retention'])} of the teacher's accuracy (ratio, paired).</p>"
    attributes = by_kind(run, "Single attributes", "t2i/attribute", FEW_STEP)
    return f"{table(head, rows, right=(1, 2, 3, 4))}{retained}{attributes}<h3>Same prompts, same noise</h3>{grid(run, FEW_STEP, PROMPTS)}"


def _effort(entry: dict[str, Any]) -> list[str]:
    speed = short(entry["images"] / entry["seconds"]) if entry.get("seconds") else "–"
    return [str(entry["steps"]), f"{entry['guidance']:g}", str(entry["evaluations"]), speed]


SECTIONS: list[tuple[str, str, Callable[[RunFolder], str]]] = [
    ("rewards", "Reward models", rewards),
    ("gain", "What RL changed", gain),
    ("watched", "Reward against truth", watched),
    ("distillation", "Four steps", distillation),
]
