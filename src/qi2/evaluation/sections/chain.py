"""Headline numbers, the chain's table, and the same prompts and seeds through every model."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.charts import whisker
from qi2.evaluation.models import LABELS
from qi2.evaluation.report_html import card, heat, interval, mark, missing, number, picture, table
from qi2.evaluation.run_folder import CHAIN, RunFolder

TITLES = {
    "pretrain": "Pre-training (1–3)",
    "continual": "Continual (4–5)",
    "sft": "Fine-tuning (6)",
    "rlhf": "RLHF",
    "distill": "Distillation",
}
HEADLINES = [  # figure, label, whether it is a difference, what it is measured on
    ("t2i/accuracy/sft", "Prompt fully right, SFT", False, "held-out prompts"),
    ("t2i/accuracy/rlhf", "Prompt fully right, RL", False, "same prompts and seeds"),
    ("rl/gain", "Gain of RL over SFT", True, "paired difference"),
    ("t2i/clip/sft", "CLIP cosine, SFT", False, "held-out captions"),
    ("t2i/clip/distill", "CLIP cosine, 4 steps", False, "held-out captions"),
    ("t2i/accuracy/distill", "Prompt fully right, 4 steps", False, "no guidance"),
    ("distill/retention", "4-step student / teacher", False, "ratio of accuracies"),
    ("edit/done/rlhf", "Edit done, RL", False, "held-out edits"),
    ("enhancer/t2i/recovered/rewritten", "Recovered by the enhancer", False, "of what short prompts cost"),
    ("enhancer/t2i/clip_meant_gain", "Gain of rewriting, CLIP", True, "degraded held-out captions"),
    ("vae/psnr_world", "VAE PSNR, world", False, "dB, held-out images"),
    ("vae/ceiling", "Checker on reconstructions", False, "ceiling of all accuracies"),
]


def cards(run: RunFolder) -> str:
    """The headline numbers; a figure that was not measured has no card."""
    made = []
    for name, label, sign, note in HEADLINES:
        if name in run.figures:
            figure = run.figures[name]
            value = f"{figure.value:+.2f}" if sign else f"{figure.value:.2f}"
            made.append(card(label, value, f"{interval(figure, 2, sign)} {note}, n&nbsp;=&nbsp;{figure.n}"))
    return f'<div class="cards">{"".join(made)}</div>' if made else missing("Headline figures", "evaluate")


def chain(run: RunFolder) -> str:
    """The chain's table: stage, steps, time, accuracy (or CLIP's cosine on a user's captions) with interval, edits."""
    prefix, label, low, high = measure(run)
    rows = []
    for stage in CHAIN:
        seconds, steps = run.stage_seconds(stage), run.steps(stage)
        state = TITLES[stage] + ("" if run.has(stage) else ' <small class="soft">not run</small>')
        times = ["–" if steps is None else f"{steps:.0f}", "–" if seconds is None else f"{seconds:.0f} s"]
        edits = [number(run.figures.get(f"edit/done/{stage}")), number(run.figures.get(f"edit/kept_mae/{stage}"), 1)]
        rows.append([state, *times, *measured(run.figures.get(f"{prefix}/{stage}"), low, high), *edits])
    head = ["stage (report stages)", "steps", "time", label, f"{low:.2g} … {high:.2g}", "edits done", "error where nothing may change"]
    body = table(head, rows, right=(1, 2))
    if not run.results:
        return body + missing("Accuracies", "evaluate")
    kinds = by_kind(run, "Accuracy by kind of prompt", "t2i/accuracy_by_kind")
    return _intro(run) + body + kinds + by_kind(run, "Single attributes", "t2i/attribute")


def measure(run: RunFolder) -> tuple[str, str, float, float]:
    """Prefix of the chain's figures, their name, and the ends of their scale."""
    if "t2i/clip_images" in run.figures:
        low, high = run.figures["t2i/clip_mismatched"].value, run.figures["t2i/clip_images"].value
        return "t2i/clip", "CLIP cosine", low, max(high, low + 0.01)
    return "t2i/accuracy", "prompts fully right", 0.0, 1.0


def _intro(run: RunFolder) -> str:
    suite = run.results["suite"]
    judged = (
        "A prompt counts as right when an exact checker finds every attribute right: objects, shapes, colours, counts, positions, "
        f"relations, words, background. {suite['t2i_n']} prompts from combinations and words that training never saw"
    )
    if "t2i/clip_images" in run.figures:
        judged = (
            f"No exact checker knows your images: the figure is the mean CLIP cosine of {suite['t2i_n']} pictures with the held-out "
            "captions they were drawn from. The scale runs from held-out images with each other's captions (chance) to those with their own"
        )
    return (
        f"<p>{judged}; every model gets the same prompts and the same noise. Intervals are 95%, by bootstrap over prompts "
        f"({suite['resamples']} resamples). The table's models before distillation: {_sampling(run, CHAIN[0])}. "
        f"The student: {_sampling(run, 'distill')}.</p>"
    )


def _sampling(run: RunFolder, model: str) -> str:
    entry = run.results.get("models", {}).get(model)
    if entry is None:
        return "not run"
    guidance = "no guidance" if entry["guidance"] == 1 else f"guidance {entry['guidance']:g}"
    return f"{entry['steps']} steps, {guidance}, {entry['evaluations']} network evaluations per image"


def measured(figure: Figure | None, low: float = 0.0, high: float = 1.0, colour: int = 0) -> list[str]:
    """Two cells: the number with its interval, and the same as a drawing."""
    return [number(figure), whisker(figure, low, high, colour=colour)]


def by_kind(run: RunFolder, title: str, prefix: str, models: Sequence[str] = tuple(LABELS)) -> str:
    """A table of the figures ``prefix/KIND/MODEL``: kinds down, models across; empty where there are none."""
    found = [key.removeprefix(prefix + "/").split("/") for key in run.figures if key.startswith(prefix + "/")]
    present = [model for model in models if model in {model for _, model in found}]
    kinds = dict.fromkeys(kind for kind, _ in found)
    rows = [(kind, [run.figures.get(f"{prefix}/{kind}/{model}") for model in present]) for kind in kinds]
    return f"<h3>{title}</h3>{heat(['', *(LABELS[m] for m in present)], rows)}" if rows else ""


def samples(run: RunFolder) -> str:
    """Grid base | SFT | RL | 4-step for the same prompts and seeds, with the checker's verdict per picture."""
    if not run.results:
        return missing("Pictures", "evaluate")
    judged = "t2i/clip_images" not in run.figures
    note = " ✓ means every attribute is right; after ✗ stand the attributes that are not." if judged else ""
    return f"<p>One row per prompt.{note}</p>{grid(run, CHAIN)}"


def grid(run: RunFolder, models: Sequence[str], limit: int | None = None) -> str:
    """Prompts down, models across, with the verdict under each picture."""
    present = [model for model in models if model in run.results["t2i"]["results"]]
    rows = []
    for index, item in enumerate(run.results["t2i"]["items"][: run.results["shown"]][:limit]):
        cells = [f"“{escape(item['prompt'])}”"]
        for model in present:
            caption = _verdict(run.results["t2i"]["results"][model][index])
            cells.append(sample(run, f"{model}/t2i-{index}", caption, item["prompt"]))
        rows.append(cells)
    return pictures(["prompt", *(LABELS[m] for m in present)], rows)


def _verdict(verdict: dict[str, Any]) -> str:
    if "all" not in verdict:
        return f"CLIP {verdict['clip']:.2f}"
    wrong = [name for name, right in verdict.items() if not right and name != "all"]
    return mark(verdict["all"], wrong if len(wrong) < len(verdict) - 1 else ["nothing right"])


def sample(run: RunFolder, name: str, caption: str = "", alt: str = "") -> str:
    """One picture that evaluation has kept, or a note where it has not."""
    path = run.path / "evaluate" / "samples" / f"{name}.png"
    return picture(path, caption, alt) if path.exists() else '<span class="soft">no picture</span>'


def pictures(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of pictures whose first column holds prompts."""
    return table(head, rows, "pictures").replace("<tr><td>", '<tr><td class="prompt">')


SECTIONS: list[tuple[str, str, Callable[[RunFolder], str]]] = [
    ("chain", "The chain", chain),
    ("samples", "Same prompts, same seeds", samples),
]
