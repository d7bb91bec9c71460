"""Registers what a run has trained beside its image model: the five reward models as ``qi2-SCALE-rewards``, the prompt enhancer as ``qi2-SCALE-enhancer``.

At promotion, not after their training: the stages run below DVC, which may not know a tracker, and only then is the recipe final. All five rewards
are one version, because they share a Qwen3-VL and a scale; ``qi2 reward --model`` takes the champion's files, ``qi2 generate --enhancer`` the enhancer's.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from qi2.core.publish import MANIFEST, file_sha256
from qi2.evaluation.bootstrap import Figure
from qi2.evaluation.run_folder import RunFolder
from qi2.evaluation.summary import enhancer_of, revision, rewards_of
from tasks import policy, registry, settings, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
FIGURES: dict[str, Callable[[RunFolder], dict[str, Figure]]] = {"rewards": rewards_of, "enhancer": enhancer_of}
HEADS = {
    "rewards": "Five calibrated reward models ({}); a difference of 1 between scores is a logit of 1. Figures on held-out pairs, 95 % intervals over prompts.",
    "enhancer": "A prompt enhancer ({}). Figures on held-out prompts, in full, short and rewritten; right is what the short prompt asks for.",
}


def register(stage: str, scale: str, runs: Path, tracker: "MlflowClient") -> dict[str, Any] | None:
    """Register what ``stage`` trained in ``runs`` where it is new: model, version, outcome, reasons. None where it trained nothing."""
    if not (runs / stage / MANIFEST).exists():
        return None
    store, sha256 = registry.Registry(tracker, f"qi2-{scale}-{stage}"), file_sha256(runs / stage / MANIFEST)
    known = store.with_tag("sha256", sha256)
    if known is not None:
        return {"model": store.name, "version": str(known.version), "outcome": known.tags["outcome"], "reasons": ["these very files are registered already"]}
    rules = yaml.safe_load((settings.ROOT / "mlflow" / "promotion.yaml").read_text())[stage]
    figures = FIGURES[stage](RunFolder(runs))
    reasons = objections(stage, rules["thresholds"], figures)
    outcome = "refused" if reasons else CHAMPION
    tags = {"sha256": sha256, "scale": scale, "outcome": outcome, "reasons": "; ".join(reasons)[:4900]}
    number = _log(stage, scale, runs, rules["bundle"], tracker, store, card(stage, store.name, figures, reasons), tags)
    store.set_alias(CHALLENGER if reasons else CHAMPION, number)
    if not reasons:
        store.drop_alias(CHALLENGER, number)
    return {"model": store.name, "version": number, "outcome": outcome, "reasons": reasons or ["every figure passes its threshold"]}


def objections(stage: str, thresholds: Mapping[str, Mapping[str, Any]], figures: Mapping[str, Figure]) -> list[str]:
    """Why the figures do not suffice, one sentence each; one that was not measured (annotated data have no ceiling) is not asked for."""
    measured = {name: figure.to_json() for name, figure in figures.items()}
    rules = {name: dict(rule) for name in measured for last, rule in thresholds.items() if name.endswith(f"/{last}")}
    return policy.objections(policy.threshold_checks(policy.Policy(stage, [], rules), measured))


def card(stage: str, name: str, figures: Mapping[str, Figure], reasons: list[str]) -> str:
    """What a version is, in Markdown."""
    rows = [f"| {key} | {f.value:.4g} | {f.low:.4g} | {f.high:.4g} | {f.n} |" for key, f in sorted(figures.items())]
    said = [f"- {reason}" for reason in reasons] or ["Every figure passes its threshold."]
    head = HEADS[stage].format(name)
    return "\n".join([f"# {name}", "", head, "", "| figure | value | low | high | n |", "|---|---|---|---|---|", *rows, "", *said, ""])


def _log(stage: str, scale: str, runs: Path, names: list[str], tracker: "MlflowClient", store: registry.Registry, text: str, tags: Mapping[str, str]) -> str:
    facts = {"kind": "registration", "stage": stage, "scale": scale, "git.revision": revision(settings.ROOT)}
    run_id = tracking.start_run(tracker, f"qi2-{scale}", f"{stage} registration@{scale}", facts, os.environ.get(tracking.PARENT))
    bundle = runs / f".{stage}_bundle"
    registry.pack(bundle, runs, names)
    (bundle / "model_card.md").write_text(text)
    number = store.register(bundle, run_id, text, tags)
    shutil.rmtree(bundle)
    tracker.set_terminated(run_id, "FINISHED")
    return number
