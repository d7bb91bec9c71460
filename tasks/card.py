"""The card of a registered model: what it is, what it was made of, what it can do, and where it fails."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from qi2.evaluation.summary import revision
from tasks import settings
from tasks.config import resolved_path
from tasks.policy import Policy

FAILURES = 3  # shown of each suite
NO_VERDICT = ("all", "done", "kept_mae")  # of an item's verdicts, those that are no single attribute


@dataclass(frozen=True)
class Facts:
    """What a card says beside the recipe: the run's folder, the policy and results.json, data versions, rows by licence, and the decision."""

    scale: str
    runs: Path
    rules: Policy
    results: Mapping[str, Any]
    versions: Mapping[str, str]  # DVC's md5 by path
    licences: Mapping[str, int]
    outcome: str
    reasons: Sequence[str]


def render(facts: Facts, name: str, version: str, run_id: str) -> str:
    """The card in Markdown; its pictures are named as they lie in the bundle."""
    from jinja2 import Environment, FileSystemLoader

    recipe = yaml.safe_load(resolved_path(facts.scale).read_text())
    template = Environment(loader=FileSystemLoader(settings.ROOT / "mlflow"), autoescape=False).get_template("model_card.md.j2")
    return template.render(
        name=name,
        version=version,
        scale=facts.scale,
        steps=facts.results.get("models", {}).get(facts.rules.model, {}).get("steps", "few"),
        parameters=_parameters(facts.runs / facts.rules.model / "metrics.json"),
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        revision=revision(settings.ROOT),
        seed=recipe["seed"],
        data=_data(recipe),
        flow_run=os.environ.get("QI2_FLOW_RUN", "none"),
        run_id=run_id,
        standins=_standins(recipe),
        outs=facts.versions,
        licences=facts.licences,
        suites=_suites(facts.results),
        figures={k: v for k, v in facts.results["figures"].items() if facts.rules.model in k.split("/") or k.startswith("vae/")},
        failures=_failures(facts),
        outcome="Promoted to champion." if facts.outcome == "champion" else "Refused.",
        reasons=facts.reasons,
    )


def _parameters(metrics: Path) -> str:
    counts = [value for key, value in json.loads(metrics.read_text()).items() if key.endswith("parameters")] if metrics.exists() else []
    return f"{counts[0]:,.0f}" if counts else "not stated"


def _suites(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name, prompts, and the version of every suite: the hash of its prompts and seeds."""
    hashes = results["suite"].get("hashes", {})
    return [{"name": name, "n": len(results.get(name, {}).get("items", [])), "version": version[:12]} for name, version in hashes.items()]


def _failures(facts: Facts) -> list[dict[str, Any]]:
    """The first items of each suite that the model got wrong: prompt, what was wrong, and the picture where one is kept."""
    found = []
    for suite in facts.results["suite"].get("hashes", {}):
        rows = facts.results.get(suite, {}).get("results", {}).get(facts.rules.model, [])
        wrong = [i for i, row in enumerate(rows) if not row.get("all", True)]
        for i in sorted(wrong, key=lambda i: not _picture(facts, suite, i).exists())[:FAILURES]:
            item, picture = facts.results[suite].get("items", [{}] * len(rows))[i], _picture(facts, suite, i)
            missed = [name for name, right in rows[i].items() if right is False and name not in NO_VERDICT]
            shown = picture.relative_to(facts.runs).as_posix() if picture.exists() else ""
            found.append({"suite": suite, "prompt": item.get("prompt", ""), "missed": ", ".join(missed) or "the whole picture", "picture": shown})
    return found


def _picture(facts: Facts, suite: str, index: int) -> Path:
    return facts.runs / "evaluate" / "samples" / facts.rules.model / f"{suite}-{index}.png"


def _data(recipe: Mapping[str, Any]) -> str:
    source = recipe["data"].get("source")
    return f"a user's own images ({source})" if source else "the procedural world and scikit-image's photographs"


def _standins(recipe: Mapping[str, Any]) -> str:
    paths = {name: part["path"] for name, part in recipe["standins"].items() if isinstance(part, Mapping) and (part.get("path") or "steps" in part)}
    return ", ".join(f"{name}: {path or 'a small stand-in trained by the line itself'}" for name, path in paths.items())
