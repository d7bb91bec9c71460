"""The page of one night: the verdict, what changed beyond chance, trends, and what fails anew, before and now side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from qi2.evaluation.changes import Change
from qi2.evaluation.charts import Points, line_chart
from qi2.evaluation.report_html import card, embed, page, table


@dataclass(frozen=True)
class Failure:
    """A prompt that was right and is wrong now: whose, what was asked, and both pictures."""

    alias: str
    prompt: str
    before: Path
    now: Path


@dataclass(frozen=True)
class NightFacts:
    """What a page shows. ``trends``: by suite and category, each model's share over nights (days since the first); ``link``: of the MLflow run."""

    title: str
    subtitle: str
    verdict: str
    shares: Mapping[str, tuple[float, int]]
    changes: Sequence[Change]
    trends: Mapping[str, Mapping[str, Points]]
    failures: Sequence[Failure]
    link: str


def render(facts: NightFacts) -> str:
    """The whole document, which needs no server and no other file."""
    cards = "".join(card(name, f"{value:.2f}", f"right of {n} prompts") for name, (value, n) in facts.shares.items())
    sections = [
        ("changes", "What changed", f"<p>{escape(facts.verdict)}</p>{_changes(facts.changes)}"),
        ("failures", "What fails anew", _failures(facts.failures)),
        ("trends", "Trends", _trends(facts.trends)),
        ("how", "How to read this", HOW),
    ]
    link = f' <a href="{escape(facts.link)}">MLflow run</a>.' if facts.link else ""
    return page(facts.title, escape(facts.subtitle) + link, f'<div class="cards">{cards}</div>', sections)


HOW = (
    "<p>Subsets of the held-out prompts take turns. <b>Same prompts before</b>: this subset the last time, with the same noise; where the version is "
    "the same, only code or machine can have changed it. <b>Nights</b>: the earlier nights of the same version, on other prompts. <b>p</b> is corrected "
    "for all comparisons of the night (Holm); below 0.05 counts as beyond chance.</p>"
)


def _changes(changes: Sequence[Change]) -> str:
    moved = sorted((change for change in changes if change.now != change.before), key=lambda change: (change.corrected, change.p))
    if not moved:
        return "<p>No share moved.</p>"
    rows = [
        [
            f"<b>{escape(c.name)}</b>" if c.beyond_chance else escape(c.name),
            escape(c.against),
            f"{c.before:.2f}",
            f"{c.now:.2f}",
            str(c.n),
            f"{c.corrected:.2g}",
            f'<span class="{"no" if c.worse else "ok"}">{"worse" if c.worse else "better"}</span>' if c.beyond_chance else "",
        ]
        for c in moved
    ]
    return table(["measured", "against", "before", "now", "prompts", "p", ""], rows, right=(2, 3, 4, 5))


def _failures(failures: Sequence[Failure]) -> str:
    if not failures:
        return "<p>Nothing that was right on these prompts before is wrong now.</p>"
    rows = [[f"“{escape(f.prompt)}”<br><small>{escape(f.alias)}</small>", _shown(f.before, "before"), _shown(f.now, "now")] for f in failures]
    return table(["prompt", "before", "now"], rows, "pictures").replace("<tr><td>", '<tr><td class="prompt">')


def _shown(path: Path, alt: str) -> str:
    return f'<img loading="lazy" width="112" style="image-rendering:pixelated" src="{embed(path, 256)}" alt="{alt}">'


def _trends(trends: Mapping[str, Mapping[str, Points]]) -> str:
    names = list(dict.fromkeys(name for series in trends.values() for name in series))
    key = ", ".join(f'<span style="color:var(--c{i})">{escape(name)}</span>' for i, name in enumerate(names))
    charts = "".join(line_chart(label, {name: series.get(name, []) for name in names}) for label, series in trends.items())
    return f'<p>{key}</p><div class="charts">{charts}</div>' if charts else "<p>The first night.</p>"
