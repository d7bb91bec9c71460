"""Registers the five reward models of a run beside the model that they helped to align, as ``qi2-SCALE-rewards``.

At promotion, not after their training: the stage runs below DVC, which may not know a tracker, and only then is the recipe final. All five
are one version, because they share a Qwen3-VL and a scale. The champion's files are what ``qi2 reward --model`` takes.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from qi2.core.publish import MANIFEST, file_sha256
from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.run_folder import RunFolder
from qi2.evaluation.summary import revision, rewards_of
from tasks import policy, registry, settings, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
STAGE = "rewards"


def register(scale: str, runs: Path, tracker: "MlflowClient") -> dict[str, Any] | None:
    """Register the rewards of ``runs`` where they are new: model, version, outcome, reasons. None where none were trained."""
    if not (runs / STAGE / MANIFEST).exists():
        return None
    store, sha256 = registry.Registry(tracker, f"qi2-{scale}-{STAGE}"), file_sha256(runs / STAGE / MANIFEST)
    known = store.with_tag("sha256", sha256)
    if known is not None:
        return {"model": store.name, "version": str(known.version), "outcome": known.tags["outcome"], "reasons": ["these very rewards are registered already"]}
    rules = yaml.safe_load((settings.ROOT / "mlflow" / "promotion.yaml").read_text())[STAGE]
    figures = rewards_of(RunFolder(runs))
    reasons = objections(rules["thresholds"], figures)
    outcome = "refused" if reasons else CHAMPION
    tags = {"sha256": sha256, "scale": scale, "outcome": outcome, "reasons": "; ".join(reasons)[:4900]}
    number = _log(scale, runs, rules["bundle"], tracker, store, card(store.name, figures, reasons), tags)
    store.set_alias(CHALLENGER if reasons else CHAMPION, number)
    if not reasons:
        store.drop_alias(CHALLENGER, number)
    return {"model": store.name, "version": number, "outcome": outcome, "reasons": reasons or ["every reward passes every threshold"]}


def objections(thresholds: Mapping[str, Mapping[str, Any]], figures: Mapping[str, Figure]) -> list[str]:
    """Why the figures do not suffice, one sentence each; a figure that a reward lacks (annotated data have no ceiling) is not asked for."""
    measured = {name: figure.to_json() for name, figure in figures.items()}
    rules = {name: dict(thresholds[last]) for name in measured if (last := name.rpartition("/")[2]) in thresholds}
    return policy.objections(policy.threshold_checks(policy.Policy(STAGE, [], rules), measured))


def card(name: str, figures: Mapping[str, Figure], reasons: list[str]) -> str:
    """What a version is, in Markdown."""
    rows = [f"| {key} | {f.value:.4g} | {f.low:.4g} | {f.high:.4g} | {f.n} |" for key, f in sorted(figures.items())]
    said = [f"- {reason}" for reason in reasons] or ["Every reward passes every threshold."]
    head = f"Five calibrated reward models ({name}); a difference of 1 between scores is a logit of 1. Figures on held-out pairs, 95 % intervals over prompts."
    return "\n".join([f"# {name}", "", head, "", "| figure | value | low | high | n |", "|---|---|---|---|---|", *rows, "", *said, ""])


def _log(scale: str, runs: Path, names: list[str], tracker: "MlflowClient", store: registry.Registry, text: str, tags: Mapping[str, str]) -> str:
    facts = {"kind": "registration", "stage": STAGE, "scale": scale, "git.revision": revision(settings.ROOT)}
    run_id = tracking.start_run(tracker, f"qi2-{scale}", f"{STAGE} registration@{scale}", facts, os.environ.get(tracking.PARENT))
    bundle = runs / ".rewards_bundle"
    registry.pack(bundle, runs, names)
    (bundle / "model_card.md").write_text(text)
    number = store.register(bundle, run_id, text, tags)
    shutil.rmtree(bundle)
    tracker.set_terminated(run_id, "FINISHED")
    return number
