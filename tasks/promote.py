"""``python -m tasks promote``: registers the last model as challenger; the policy makes it champion or says why not.

The registered model is a bundle that `qi2.pipeline` loads as it is, with the evaluation and a model card. The champion is also
laid out under ``runs/SCALE/champion/``, where ``qi2 generate`` finds it without a tracker. Every decision is a run in MLflow, with the
policy, each check, and what was found.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from qi2.core.errors import QI2Error
from qi2.core.publish import MANIFEST, file_sha256
from qi2.data.shards import Sidecar
from qi2.evaluation.summary import revision
from tasks import beside, card, config, crown, policy, registry, settings, tracking
from tasks.config import resolved_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

STAGES = range(1, 7)  # of the data sets that image models train on
MIB = 1 << 20


def main(scale: str) -> None:
    """Decide, and write ``runs/SCALE/promotion.json``: model, version, outcome, reasons, checks. Raises QI2Error when nothing was evaluated."""
    runs = settings.ROOT / settings.runs_folder(scale)
    own_images = bool(config.read(scale).data.source)
    rules = policy.read_policy(settings.ROOT / "mlflow" / "promotion.yaml", scale, own_images)
    if not (runs / "evaluate" / "results.json").exists():
        raise QI2Error(f"{runs.relative_to(settings.ROOT)} has no evaluation to decide on; run make reproduce STAGE=evaluate SCALE={scale}")
    tracker = tracking.client()
    decision = Offer(scale, runs, rules, tracker).decide()
    (runs / "promotion.json").write_text(json.dumps(decision, indent=1))
    for said in (decision, *(beside.register(stage, scale, runs, tracker) for stage in beside.FIGURES)):
        if said is not None:
            print("\n- ".join([f"{said['model']} version {said['version']}: {said['outcome']}", *said["reasons"]]))


class Offer:
    """One trained model before the registry."""

    def __init__(self, scale: str, runs: Path, rules: policy.Policy, tracker: "MlflowClient") -> None:
        self.scale, self.runs, self.rules, self.tracker = scale, runs, rules, tracker
        self.registry = registry.Registry(tracker, f"qi2-{scale}")
        self.hash = file_sha256(runs / rules.model / MANIFEST)
        self.results = policy.read_results(runs / "evaluate")
        self.licences = licences(runs)

    def decide(self) -> dict[str, Any]:
        """Register when the model is new, then promote or refuse."""
        champion = self.registry.alias(crown.CHAMPION)
        version = self.registry.with_tag("sha256", self.hash)
        if version is not None and champion is not None and version.version == champion.version:
            return self._decision(str(version.version), crown.CHAMPION, ["this very model is the champion already"], [])
        checks = self._checks(champion, version)
        reasons = policy.objections(checks)
        outcome = "refused" if reasons else crown.CHAMPION
        if not reasons:
            rest = " and is not worse than the champion" if champion else "; there was no champion before"
            reasons = ["it passes every check" + rest]
        number = self._record(version, outcome, reasons, checks)
        if outcome == crown.CHAMPION:
            crown.crown(self.registry, self.scale, self.runs, self.rules.model, number)
        else:
            self.registry.set_alias(crown.CHALLENGER, number)
        return self._decision(number, outcome, reasons, checks)

    def _checks(self, champion: Any, version: Any) -> list[policy.Check]:
        """All that the policy asks, also of a model that failed already: who reads a refusal wants the whole of it."""
        checks = policy.threshold_checks(self.rules, self.results["figures"]) + policy.budget_checks(self.rules, self._costs())
        checks += policy.licence_checks(self.rules, self.licences)
        if version is not None and (why := version.tags.get(crown.WITHDRAWN)):
            checks.append(policy.Check("withdrawn", "never rolled back", False, f"version {version.version} was rolled back: {why}"))
        if champion is not None:
            former = policy.read_results(self.registry.folder(champion.version) / "evaluate")
            checks += policy.champion_checks(self.rules, self.results, former)
        return checks

    def _costs(self) -> dict[str, float]:
        """What budgets limit: seconds per image, drawn in the evaluation's batches, and the size of the model's files."""
        drawn = self.results.get("models", {}).get(self.rules.model, {})
        files = [path for name in self.rules.bundle for path in (self.runs / name).rglob("*") if path.is_file()]
        costs = {"bundle_mib": sum(path.stat().st_size for path in files) / MIB}
        return costs | ({"seconds_per_image": drawn["seconds"] / drawn["images"]} if drawn.get("images") else {})

    def _record(self, version: Any, outcome: str, reasons: Sequence[str], checks: Sequence[policy.Check]) -> str:
        """A run with the evidence; a model that is new is registered from it. Returns the version."""
        number = str(version.version) if version is not None else self.registry.next_version()
        tags = {"kind": "decision", "stage": "promotion", "scale": self.scale, "git.revision": revision(settings.ROOT), "outcome": outcome}
        run_id = tracking.start_run(self.tracker, f"qi2-{self.scale}", f"promotion@{self.scale}", tags, os.environ.get(tracking.PARENT))
        evidence = {**self._decision(number, outcome, reasons, checks), "policy": asdict(self.rules), "versions": self._versions()}
        self.tracker.log_dict(run_id, evidence, "decision.json")
        tracking.log_metrics(self.tracker, run_id, {"promotion/checks": float(len(checks)), "promotion/failed": float(len(policy.objections(checks)))})
        if version is None:
            number = self._register(number, run_id, outcome, reasons)
        self.registry.tag(number, {"outcome": outcome, "reasons": "; ".join(reasons)[:4900], "decision": run_id})
        self.tracker.set_terminated(run_id, "FINISHED")
        return number

    def _register(self, number: str, run_id: str, outcome: str, reasons: Sequence[str]) -> str:
        versions = self._versions()
        facts = card.Facts(self.scale, self.runs, self.rules, self.results, versions, self.licences, outcome, reasons)
        text, bundle = card.render(facts, self.registry.name, number, run_id), self.runs / ".bundle"
        registry.pack(bundle, self.runs, (*self.rules.bundle, "evaluate"))
        shutil.copyfile(resolved_path(self.scale), bundle / "recipe.yaml")
        (bundle / "model_card.md").write_text(text)
        tags = {"sha256": self.hash, "scale": self.scale, **{f"dvc.{path}": md5 for path, md5 in versions.items()}}
        given = self.registry.register(bundle, run_id, text, tags)
        shutil.rmtree(bundle)
        return given

    def _versions(self) -> dict[str, str]:
        """DVC's md5 of the model's parts and of the data that it was trained on, by path."""
        lock = yaml.safe_load((settings.ROOT / "dvc.lock").read_text())["stages"] if (settings.ROOT / "dvc.lock").exists() else {}
        outs = {out["path"]: out["md5"] for name in lock for out in lock[name]["outs"] if name.endswith(f"@{self.scale}") and "md5" in out}
        wanted = {f"{settings.runs_folder(self.scale).as_posix()}/{name}" for name in (*self.rules.bundle, "datasets", "encoded", "accepted")}
        return {path: md5 for path, md5 in outs.items() if path in wanted}

    def _decision(self, number: str, outcome: str, reasons: Sequence[str], checks: Sequence[policy.Check]) -> dict[str, Any]:
        said = {"model": self.registry.name, "version": number, "outcome": outcome, "reasons": list(reasons)}
        return said | {"checks": [asdict(check) for check in checks]}


def licences(runs: Path) -> dict[str, int]:
    """How many rows of the six data sets, and of what the flywheel added, have each licence; a row counts once."""
    folders = [*(runs / "datasets" / f"s{i}" for i in STAGES), runs / "accepted" / "shards"]
    tables = [Sidecar.load(folder).table[["id", "licence"]] for folder in folders if folder.exists()]
    rows = pd.concat(tables).drop_duplicates("id") if tables else pd.DataFrame({"licence": []})
    return {str(name): int(count) for name, count in rows["licence"].value_counts().items()}
