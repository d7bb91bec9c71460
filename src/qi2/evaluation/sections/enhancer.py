"""The prompt enhancer: what short prompts cost, what rewriting brings back, and pictures before and after (report section 3.3, Fig. 9)."""

from collections.abc import Callable
from html import escape
from typing import Any

from qi2.evaluation.report_html import heat, mark, missing, number, table
from qi2.evaluation.run_folder import RunFolder, read_json
from qi2.evaluation.sections.chain import measured, pictures, sample
from qi2.evaluation.wordings import AGAIN, FULL, LABELS, RESULTS, REWRITTEN, SHORT, shown_rows

SIGNED = ("gain", "rl_gain", "full_change")  # differences
TASKS = {"t2i": "Text to image", "ti2i": "Editing"}


def worth(run: RunFolder) -> str:
    """Accuracy on the same held-out prompts in full, short and rewritten."""
    if f"enhancer/t2i/clip_meant/{SHORT}" in run.figures:
        return _own(run)
    present = [task for task in TASKS if f"enhancer/{task}/accuracy/{SHORT}" in run.figures]
    if not present:
        return missing("Figures of the prompt enhancer", "enhancer")
    return _NOTE + "".join(f"<h3>{TASKS[task]}</h3>{_task(run, task)}" for task in present)


_NOTE = (
    "<p>Held-out prompts are degraded as users write: everyday words, search words, no background, no places. Every version is drawn by the same "
    "generator from the same noise, and right is what the <b>short</b> prompt asks for. <b>In full, rewritten</b> says whether a prompt that needs no "
    "help loses by it.</p>"
)


_OWN_NOTE = (
    "<p>No exact checker knows your images. Your held-out captions are degraded as users write, and every version is drawn by the same generator from the same "
    "noise. Pictures are compared with the held-out caption (what was <b>meant</b>) and with the short prompt (what was <b>asked</b>): a cosine of CLIP, and "
    "the run's alignment reward in logits. CLIP on what was meant is the figure to trust: RL was trained on the reward of what was asked, which may know no "
    "everyday words.</p>"
)
JUDGES = {
    "clip_meant": "CLIP, what was meant", "clip_asked": "CLIP, what was asked",
    "alignment_meant": "Alignment reward, what was meant", "alignment_asked": "Alignment reward, what was asked",
}  # fmt: skip
GAINS = {
    "cost": "is what short prompts cost", "gain": "gain over the short prompts", "rl_gain": "gain of RL over SFT",
    "full_change": "change of full prompts",
}  # fmt: skip
RULES = {
    "degraded": "of the captions could be degraded; the others are asked in full, and the same either way",
    "usable": "of the rewrites can be used; the others fall back to the original",
    "texts_kept": "of the rewrites of prompts with texts to be shown keep these to the letter",
    "language_kept": "of the rewrites are in the script of their prompt",
}


def _own(run: RunFolder) -> str:
    """The same on a user's own captions: similarities by wording, their paired differences, and what the rules say."""
    made, prefix = _OWN_NOTE, "enhancer/t2i"
    for judge, title in JUDGES.items():
        found = {name: figure for name in LABELS if (figure := run.figures.get(f"{prefix}/{judge}/{name}"))}
        if found:
            ends = min(figure.low for figure in found.values()), max(figure.high for figure in found.values())
            rows = [[LABELS[name], *measured(figure, ends[0], max(ends[1], ends[0] + 0.01))] for name, figure in found.items()]
            made += f"<h3>{title}</h3>{table(['prompt', 'mean', f'{ends[0]:.2f} … {ends[1]:.2f}'], rows)}{_list(run, f'{prefix}/{judge}_', GAINS, sign=True)}"
    return made + "<h3>The rewrites</h3>" + _list(run, f"{prefix}/", RULES)


def _list(run: RunFolder, prefix: str, names: dict[str, str], sign: bool = False) -> str:
    items = [f"<li>{number(run.figures[prefix + name], 3, sign=sign)} {text}</li>" for name, text in names.items() if prefix + name in run.figures]
    return f"<ul>{''.join(items)}</ul>"


def _task(run: RunFolder, task: str) -> str:
    prefix = f"enhancer/{task}"
    rows = [[LABELS[name], *measured(run.figures.get(f"{prefix}/accuracy/{name}"))] for name in LABELS if f"{prefix}/accuracy/{name}" in run.figures]
    names = {
        f"recovered/{REWRITTEN}": "of what short prompts cost is recovered",
        "gain": "gain over the short prompts",
        "rl_gain": "gain of RL over SFT",
        "full_change": "change of full prompts",
        "usable": "of the rewrites can be used; the others fall back to the original",
    }
    said = "".join(
        f"<li>{number(run.figures[f'{prefix}/{name}'], 3, sign=name in SIGNED)} {text}</li>"
        for name, text in names.items()
        if f"{prefix}/{name}" in run.figures
    )
    return table(["prompt", "right", "0 … 1"], rows) + f"<ul>{said}</ul>" + _by(run, task, "kind")


def _by(run: RunFolder, task: str, part: str) -> str:
    prefix = f"enhancer/{task}/accuracy_by_{part}/"
    kinds = dict.fromkeys(key.removeprefix(prefix).split("/")[0] for key in run.figures if key.startswith(prefix))
    shown = (FULL, SHORT, REWRITTEN, AGAIN)
    return heat(["", *(LABELS[name] for name in shown)], [(kind, [run.figures.get(f"{prefix}{kind}/{name}") for name in shown]) for kind in kinds])


def before_after(run: RunFolder) -> str:
    """The short prompt and its picture beside the rewrite and its picture."""
    found: dict[str, Any] = read_json(run.path / "evaluate" / RESULTS, {})
    if not found:
        return missing("Rewritten prompts", "enhancer")
    rows = []
    for task, items in found["items"].items():
        for k, i in enumerate(shown_rows(len(items), found["shown"])):
            item = items[i]
            rows.append([_said(item, SHORT), _drawn(run, item, task, SHORT, k), _said(item, REWRITTEN), _drawn(run, item, task, REWRITTEN, k)])
    return pictures(["as written", "", "as the generator reads it", ""], rows)


def _said(item: dict[str, Any], name: str) -> str:
    why = item["reasoning"] if not item["fallback"] else f"kept as it was: {item['fallback']}"
    return f"“{escape(item['prompts'][name])}”" + (f"<br><small class='soft'>{escape(why)}</small>" if name == REWRITTEN else "")


def _drawn(run: RunFolder, item: dict[str, Any], task: str, name: str, k: int) -> str:
    judged = mark(item["right"][name]) if "right" in item else f"CLIP {item['scores'][name]['clip_meant']:.2f}"
    return sample(run, f"enhancer/{task}-{name}-{k}", judged, item["prompts"][name])


SECTIONS: list[tuple[str, str, Callable[[RunFolder], str]]] = [
    ("enhancer", "Prompt enhancer", worth),
    ("rewrites", "Before and after the enhancer", before_after),
]
