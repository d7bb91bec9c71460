"""Suites: the final models' scores by suite and category, text rendering by script and length, and where each suite is failed (report, section 5)."""

from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any

from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.models import LABELS
from qi2.evaluation.report_html import heat, missing, number, table
from qi2.evaluation.run_folder import RunFolder
from qi2.evaluation.sections.chain import pictures, sample

PREFIX = "suite/"
LENGTHS = (4, 12, 40, 120)  # letters: the ends of the classes of text length
MOST_SOURCES = 3  # of an edit that are shown
EXAMPLES = 4  # of each suite that are failed


def suites(run: RunFolder) -> str:
    """Scores of every suite, the same by category, and the pictures that were worst."""
    found = {name: entry for name, entry in run.results.items() if name.startswith(PREFIX)}
    if not run.results:
        return missing("Scores of suites", "evaluate")
    if not found:
        return '<p class="missing"><b>None was asked for.</b> <code>evaluate.suites</code> names suites, e.g. <code>[world]</code> or <code>[all]</code>.</p>'
    models = list(dict.fromkeys(model for entry in found.values() for model in entry["results"]))
    rows = []
    for name, entry in found.items():
        scores = [number(_figure(run, name, entry, "score", model)) for model in models]
        facts = entry["facts"]
        rows.append(
            [
                f"<b>{escape(name.removeprefix(PREFIX))}</b><br><small>{escape(facts['about'])}</small>",
                escape(facts["label"]),
                _scale(entry),
                *scores,
                _size(entry),
            ]
        )
    head = ["suite", "protocol / who answered", "scale", *(LABELS[model] for model in models), "prompts"]
    folds = "".join(_suite(run, name, entry, models) for name, entry in found.items())
    return INTRO + table(head, rows, "wrapped") + folds + _text(run, {name: entry for name, entry in found.items() if "script" in entry["items"][0]}, models)


INTRO = (
    "<p>A suite is a fixed list of prompts, a protocol, somebody who answers, and a published formula; 95% intervals over prompts. "
    "No score is that of a public benchmark: the prompts and who answers are those named here.</p>"
)


def _figure(run: RunFolder, name: str, entry: Mapping[str, Any], figure: str, model: str) -> Figure | None:
    return run.figures.get(f"{name}/{entry['facts']['label']}/{figure}/{model}")


def _scale(entry: Mapping[str, Any]) -> str:
    return " to ".join(f"{end:g}" for end in entry["facts"]["scale"])


def _size(entry: Mapping[str, Any]) -> str:
    images = entry["facts"]["images"]
    return f"{len(entry['items'])}{f' × {images}' if images > 1 else ''}"


def _suite(run: RunFolder, name: str, entry: Mapping[str, Any], models: list[str]) -> str:
    """One suite in a fold: categories and worst pictures."""
    kinds = list(dict.fromkeys(item["kind"] for item in entry["items"]))
    rows = [(kind.replace("_", " "), [_figure(run, name, entry, f"by_category/{kind}", model) for model in models]) for kind in sorted(kinds)]
    by_kind = heat(["", *(LABELS[model] for model in models)], rows) if len(kinds) > 1 else ""
    title = escape(name.removeprefix(PREFIX))
    return f"<details><summary>{title}: by category, and its worst pictures</summary>{by_kind}{_failures(run, name, entry, models)}</details>"


def _failures(run: RunFolder, name: str, entry: Mapping[str, Any], models: list[str]) -> str:
    """What the last model drew worst, beside what the others drew for the same prompt where that is kept."""
    last, folder = models[-1], run.path / "evaluate" / "samples"
    verdicts = entry["results"].get(last, [])
    shown = [i for i, row in enumerate(verdicts) if row and not row.get("all", False) and (folder / last / f"{name}-{i}.png").exists()]
    rows = []
    for index in sorted(shown, key=lambda i: verdicts[i]["score"])[:EXAMPLES]:
        item = entry["items"][index]
        sources = [sample(run, f"source/{name}-{index}-{j}") for j in range(MOST_SOURCES) if (folder / "source" / f"{name}-{index}-{j}.png").exists()]
        cells = [sample(run, f"{model}/{name}-{index}", f"{entry['results'][model][index].get('score', 0):.2f}", item["prompt"]) for model in models]
        given = [f'<div class="row small">{"".join(sources)}</div>'] if entry["facts"]["task"] == "edit" else []
        rows.append([f"“{escape(item['prompt'])}”<br><small>{escape(item['kind'].replace('_', ' '))}</small>", *given, *cells])
    head = ["prompt", *(["from"] if entry["facts"]["task"] == "edit" else []), *(LABELS[model] for model in models)]
    return pictures(head, rows) if rows else "<p>Nothing of it was failed.</p>"


def _text(run: RunFolder, found: Mapping[str, Any], models: list[str]) -> str:
    """Scores of every suite that reads text, by script and length of what was asked for."""
    if not found:
        return ""
    boot, rows = Bootstrap(run.results["suite"]["seed"], run.results["suite"]["resamples"]), list[list[str]]()
    for name, entry in found.items():
        for (script, length), places in _groups(entry["items"]):
            scores = [_mean(boot, [entry["results"][model][i] for i in places if i < len(entry["results"].get(model, []))]) for model in models]
            rows.append([escape(script), length, escape(name.removeprefix(PREFIX)), escape(entry["facts"]["label"]), *map(number, scores), str(len(places))])
    head = ["script", "letters", "suite", "protocol / who read", *(LABELS[model] for model in models), "prompts"]
    return f"<h3>Text rendering by script and length</h3><p>{TEXT}</p>" + table(head, sorted(rows, key=lambda row: row[0]), right=(len(head) - 1,))


TEXT = (
    "Mean score per prompt: the share of asked-for words that were read, by the script and the length of the asked-for text. A reader's own errors bound "
    "it (docs/suites.md has them); a script that no suite of this run asks for is not in the table."
)


def _groups(items: list[dict[str, Any]]) -> Iterator[tuple[tuple[str, str], list[int]]]:
    classes = [f"1 to {LENGTHS[0]}", *(f"{low + 1} to {high}" for low, high in zip(LENGTHS, LENGTHS[1:], strict=False)), f"over {LENGTHS[-1]}"]
    groups: dict[tuple[str, int], list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault((item["script"], sum(item["letters"] > end for end in LENGTHS)), []).append(place)
    for script, length in sorted(groups):
        yield (script, classes[length]), groups[script, length]


def _mean(boot: Bootstrap, rows: list[dict[str, Any]]) -> Figure | None:
    values = [row["score"] for row in rows if row]
    return boot.mean(values) if values else None


SECTIONS: list[tuple[str, str, Callable[[RunFolder], str]]] = [("suites", "Suites", suites)]
