"""Report sections about how the models came to be: curves, time, configuration, and what the figures do not say."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from qi2.evaluation.charts import line_chart, shares, short
from qi2.evaluation.report_html import missing, table
from qi2.evaluation.run_folder import STAGES, RunFolder

FIRST = ("loss", "accuracy", "reward", "psnr")  # curves whose names hold these come first
SHOWN = 6  # charts per stage before the fold
VLM = (
    "The condition encoder is a tiny Qwen3-VL that this line trained on the world's images and captions and then froze. It also serves as "
    "reward backbone and as the VAE's semantic teacher. <code>standins.vlm.path</code> loads a real one through the same code."
)
WORLD = (
    "Every T2I and editing figure is measured on the procedural world with exact checkers. It says how well the line works on this world, "
    "not how the model would fare on photographs or on a public benchmark; none was run.",
    "Prompts are held out by combination (colours with shapes) and by word: the parts occur in training, the combination does not.",
)
OWN = (
    "Trained on your own images: pictures are judged by CLIP's cosine with held-out captions, which says little about counts, positions "
    "or words. Look at the pictures.",
)
ALWAYS = (
    "Preference pairs of the reward models, unless you give annotated ones, are made: right against wrong captions and edits, good "
    "against worsened pictures. No person was asked.",
    "One training seed. Intervals cover the choice of prompts and noise, not the luck of a training run.",
)
SECTIONS_OF_TIME = ("compute", "evaluate", "import", "orchestration", "log")


def curves(run: RunFolder) -> str:
    """Small multiples of every curve of every stage."""
    parts = []
    for stage in STAGES:
        found = run.curves(stage)
        drawn = [line_chart(name, {name: found[name]}) for name in sorted(found, key=_curve_order)]
        charts = [f"<div>{chart}</div>" for chart in drawn if chart]
        if charts:
            parts.append(f'<h3>{stage}</h3><div class="charts">{"".join(charts[:SHOWN])}</div>')
        if len(charts) > SHOWN:
            rest = f'<div class="charts">{"".join(charts[SHOWN:])}</div>'
            parts.append(f"<details><summary>{len(charts) - SHOWN} more of {stage}</summary>{rest}</details>")
    note = "<p>Over optimiser steps; faint as measured, strong as running mean, the number is the last mean.</p>"
    return note + "".join(parts) if parts else missing("Training curves", "any training stage")


def _curve_order(name: str) -> tuple[int, str]:
    return next((i for i, word in enumerate(FIRST) if word in name), len(FIRST)), name


def time_spent(run: RunFolder) -> str:
    """Where the wall time of the run went: by stage, and useful compute against everything around it."""
    stages: Mapping[str, Any] = run.timing.get("stages", {})
    if not stages:
        return '<p class="missing"><b>Not measured.</b> Times are recorded by a whole run (<code>make run</code>).</p>'
    total, share, peak = (run.timing.get(key) for key in ("total_s", "overhead_share", "peak_gib"))
    facts = [
        f"{total / 60:.1f} minutes of wall time in all" if total else "",
        f"{100 * share:.0f}% of it overhead (orchestration, imports, evaluation)" if share is not None else "",
    ]
    facts.append(f"peak memory {peak:.1f} GiB" if peak else "")
    facts.append(f"{total / 3600 * run.price:.2f} USD at {run.price:g} USD an hour" if total and run.price else "")
    by_stage = {name: run.stage_seconds(name) or 0.0 for name in stages}
    body = f"<p>{', '.join(fact for fact in facts if fact)}.</p><h3>By stage</h3>{shares(by_stage)}"
    by_section = _by_section(stages) | ({"flow": run.timing["flow_s"]} if run.timing.get("flow_s") else {})
    if not by_section:
        return body
    every = _every_stage(run, stages, [name for name in by_section if name != "flow"])
    return f"{body}<h3>By use</h3>{shares(by_section)}<details open><summary>Every stage</summary>{every}</details>"


def _every_stage(run: RunFolder, stages: Mapping[str, Any], names: Sequence[str]) -> str:
    """Seconds by use, minutes in all, what they cost where a price is known, and the tracker's run where there is one."""
    head, rows = ["stage", "minutes", *(["USD"] if run.price else []), *(f"{name}, s" for name in names), *(["MLflow"] if run.links else [])], []
    for stage, parts in stages.items():
        if isinstance(parts, Mapping):
            whole = sum(parts.values())
            cost = [f"{whole / 3600 * run.price:.3f}"] if run.price else []
            link = [f'<a href="{escape(run.links[stage])}">run</a>' if stage in run.links else "–"] if run.links else []
            rows.append([escape(stage), f"{whole / 60:.1f}", *cost, *(short(parts[n]) if n in parts else "–" for n in names), *link])
    return table(head, rows, right=range(1, len(head)))


def _by_section(stages: Mapping[str, Any]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for parts in stages.values():
        for name, seconds in parts.items() if isinstance(parts, Mapping) else ():
            sums[name] = sums.get(name, 0.0) + seconds
    known = {name: sums.pop(name) for name in SECTIONS_OF_TIME if name in sums}
    return known | dict(sorted(sums.items()))


def provenance(run: RunFolder, facts: Mapping[str, str], config: str) -> str:
    """Configuration, revision, suites and the hash of every published result."""
    rows = [[escape(name), f"<code>{escape(value)}</code>"] for name, value in facts.items()]
    rows += [[f"suite {name}", f"<code>{value[:16]}</code>"] for name, value in run.results.get("suite", {}).get("hashes", {}).items()]
    hashes = []
    for stage in STAGES:
        for path, digest in sorted(run.hashes(stage).items()):
            if path.endswith((".safetensors", ".parquet")):
                hashes.append([f"<code>{stage}/{escape(path)}</code>", f"<code>{digest[:16]}</code>"])
    body = (
        table(["", ""], rows)
        + "<h3>Results by SHA-256 (first 16 digits)</h3>"
        + (table(["file", "hash"], hashes) if hashes else missing("Hashes", "any stage"))
    )
    return body + f"<details><summary>The whole resolved configuration</summary><pre>{escape(config)}</pre></details>"


def standins(config: Mapping[str, Any]) -> str:
    """What stood in for a pretrained model or for people, and how the figures must therefore be read."""
    notes = [*(OWN if config.get("data", {}).get("source") else WORLD), *ALWAYS]
    models = config.get("standins", {})
    if not models.get("vlm", {}).get("path"):
        notes.insert(0, VLM)
    for name, label in (("clip", "CLIP"), ("nsfw", "NSFW")):
        if name in models and not models[name].get("path"):
            notes.insert(1, f"The {label} filter's model is a small one trained by this line; <code>standins.{name}.path</code> loads a real one.")
    return "".join(f'<p class="note">{note}</p>' for note in notes)


SECTIONS: list[tuple[str, str, Callable[[RunFolder], str]]] = [
    ("curves", "Curves", curves),
    ("time", "Where the time went", time_spent),
]
