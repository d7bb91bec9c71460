"""The static report of one run: ``index.html`` (one self-contained page) and ``summary.json``. Torch-free and quick.

Reads only what the stages have published; a stage that has not run is named as such.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qi2.config import as_dict
from qi2.core.publish import publish
from qi2.evaluation.report_html import page
from qi2.evaluation.run_folder import RunFolder
from qi2.evaluation.sections import alignment, chain, data, enhancer, line, reconstruction, suites
from qi2.evaluation.summary import summarise

MODULES = (chain, suites, reconstruction, alignment, enhancer, data, line)
Section = tuple[str, str, str]
INDEX, SUMMARY = "index.html", "summary.json"


def build_report(
    cfg: Any, runs: Path, out: Path, more: Sequence[Section] = (), links: Mapping[str, str] = MappingProxyType({}), price: float = 0.0
) -> dict[str, Any]:
    """Publish the report of ``runs`` (e.g. ``runs/tiny``) to ``out`` and return the summary; ``cfg`` is the run's Recipe.

    ``more``: sections that others build, (anchor, title, HTML); ``links``: where a tracker shows the run (``line``) and its stages; ``price``: USD per hour.
    """
    run = RunFolder(runs, links, price)
    summary = summarise(cfg.scale, cfg.seed, run)
    with publish(out) as staging:
        (staging / SUMMARY).write_text(json.dumps(summary, indent=1))
        (staging / INDEX).write_text(render(cfg, run, summary, more), encoding="utf-8")
    return summary


def render(cfg: Any, run: RunFolder, summary: dict[str, Any], more: Sequence[Section] = ()) -> str:
    """The page as text."""
    config = as_dict(cfg)
    built = [(anchor, title, build(run)) for module in MODULES for anchor, title, build in module.SECTIONS]
    place = next(i for i, (anchor, _, _) in enumerate(built) if anchor == "curation")
    built[place:place] = more
    facts = {"scale": summary["scale"], "seed": str(summary["seed"]), "git revision": summary["revision"], "run": str(run.path)}
    built.append(("provenance", "Provenance", line.provenance(run, facts, _yaml(config))))
    built.append(("reading", "How to read this", line.standins(config)))
    subtitle = f"scale <b>{cfg.scale}</b>, seed {cfg.seed}, revision <code>{summary['revision']}</code>."
    note = " All accuracies are on held-out prompts; brackets are 95% intervals."
    note += f' <a href="{escape(run.links["line"])}">MLflow run</a> (while its server runs).' if "line" in run.links else ""
    return page("qi2: an image model from data to four steps", subtitle + note, chain.cards(run), built)


def _yaml(config: dict[str, Any]) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(config))
