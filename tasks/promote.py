"""``python -m tasks promote``: registers the last model as challenger; the policy makes it champion or says why not.

The registered model is a bundle that `qi2.pipeline` loads as it is, with the evaluation and a model card. The champion is also
laid out under ``runs/SCALE/champion/``, where ``qi2 generate`` finds it without a tracker.
"""

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from qi2.core.errors import QI2Error
from qi2.core.publish import MANIFEST, file_sha256, publish
from qi2.evaluation.summary import revision
from tasks import config, policy, registry, rewards_registry, settings, tracking
from tasks.config import resolved_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"


def main(scale: str) -> None:
    """Decide, and write ``runs/SCALE/promotion.json``: model, version, outcome, reasons. Raises QI2Error when nothing was evaluated."""
    runs = settings.ROOT / settings.runs_folder(scale)
    own_images = bool(config.read(scale).data.source)
    rules = policy.read_policy(settings.ROOT / "mlflow" / "promotion.yaml", scale, own_images)
    if not (runs / "evaluate" / "results.json").exists():
        raise QI2Error(f"{runs.relative_to(settings.ROOT)} has no evaluation to decide on; run make reproduce STAGE=evaluate SCALE={scale}")
    tracker = tracking.client()
    offer = Offer(scale, runs, rules, tracker)
    decision = offer.decide()
    (runs / "promotion.json").write_text(json.dumps(decision, indent=1))
    for said in (decision, rewards_registry.register(scale, runs, tracker)):
        if said is not None:
            print("\n- ".join([f"{said['model']} version {said['version']}: {said['outcome']}", *said["reasons"]]))


class Offer:
    """One trained model before the registry."""

    def __init__(self, scale: str, runs: Path, rules: policy.Policy, tracker: "MlflowClient") -> None:
        self.scale, self.runs, self.rules, self.tracker = scale, runs, rules, tracker
        self.registry = registry.Registry(tracker, f"qi2-{scale}")
        self.hash = file_sha256(runs / rules.model / MANIFEST)
        self.results = policy.read_results(runs / "evaluate")

    def decide(self) -> dict[str, Any]:
        """Register when the model is new, then promote or refuse."""
        champion = self.registry.alias(CHAMPION)
        version = self.registry.with_tag("sha256", self.hash)
        if version is not None and champion is not None and version.version == champion.version:
            return self._decision(str(version.version), CHAMPION, ["this very model is the champion already"])
        reasons = self._objections(champion)
        outcome = "refused" if reasons else CHAMPION
        if not reasons:
            rest = " and is not worse than the champion" if champion else "; there was no champion before"
            reasons = ["it passes every threshold" + rest]
        number = str(version.version) if version is not None else self._register(outcome, reasons)
        self.registry.tag(number, {"outcome": outcome, "reasons": "; ".join(reasons)[:4900]})
        if outcome == CHAMPION:
            self._crown(number)
        else:
            self.registry.set_alias(CHALLENGER, number)
        return self._decision(number, outcome, reasons)

    def _objections(self, champion: Any) -> list[str]:
        reasons = policy.failed_thresholds(self.rules, self.results["figures"])
        if champion is not None:
            former = policy.read_results(self.registry.folder(champion.version) / "evaluate")
            reasons += policy.worse_than_champion(self.rules, self.results, former)
        return reasons

    def _register(self, outcome: str, reasons: list[str]) -> str:
        number = self.registry.next_version()
        tags = {"kind": "registration", "stage": "promotion", "scale": self.scale, "git.revision": revision(settings.ROOT)}
        run_id = tracking.start_run(self.tracker, f"qi2-{self.scale}", f"promotion@{self.scale}", tags, os.environ.get(tracking.PARENT))
        card = self._card(number, run_id, outcome, reasons)
        bundle = self.runs / ".bundle"
        self._pack(bundle, card)
        given = self.registry.register(bundle, run_id, card, {"sha256": self.hash, "scale": self.scale, **self._hashes()})
        shutil.rmtree(bundle)
        self.tracker.set_terminated(run_id, "FINISHED")
        return given

    def _pack(self, bundle: Path, card: str) -> None:
        registry.pack(bundle, self.runs, (*self.rules.bundle, "evaluate"))
        shutil.copyfile(resolved_path(self.scale), bundle / "recipe.yaml")
        (bundle / "model_card.md").write_text(card)

    def _crown(self, number: str) -> None:
        self.registry.set_alias(CHAMPION, number)
        self.registry.drop_alias(CHALLENGER, number)
        source = self.registry.folder(number)
        with publish(self.runs / "champion") as staging:
            shutil.copytree(source, staging, dirs_exist_ok=True)
            facts = {"model": self.registry.name, "version": number, "stage": self.rules.model, "scale": self.scale, "sha256": self.hash}
            (staging / "champion.json").write_text(json.dumps(facts, indent=1))

    def _hashes(self) -> dict[str, str]:
        lock = yaml.safe_load((settings.ROOT / "dvc.lock").read_text())["stages"] if (settings.ROOT / "dvc.lock").exists() else {}
        outs = {out["path"]: out["md5"] for name in lock for out in lock[name]["outs"] if name.endswith(f"@{self.scale}") and "md5" in out}
        wanted = {f"{settings.runs_folder(self.scale).as_posix()}/{name}" for name in self.rules.bundle}
        return {f"dvc.{path}": md5 for path, md5 in outs.items() if path in wanted}

    def _card(self, number: str, run_id: str, outcome: str, reasons: list[str]) -> str:
        from jinja2 import Environment, FileSystemLoader

        recipe = yaml.safe_load(resolved_path(self.scale).read_text())
        facts = self.results.get("models", {}).get(self.rules.model, {})
        metrics = self.runs / self.rules.model / "metrics.json"
        counts = [v for k, v in json.loads(metrics.read_text()).items() if k.endswith("parameters")] if metrics.exists() else []
        template = Environment(loader=FileSystemLoader(settings.ROOT / "mlflow"), autoescape=False).get_template("model_card.md.j2")
        return template.render(
            name=self.registry.name,
            version=number,
            scale=self.scale,
            steps=facts.get("steps", "few"),
            parameters=f"{counts[0]:,.0f}" if counts else "not stated",
            date=time.strftime("%Y-%m-%d", time.gmtime()),
            revision=revision(settings.ROOT),
            seed=recipe["seed"],
            data=_data(recipe),
            flow_run=os.environ.get("QI2_FLOW_RUN", "none"),
            run_id=run_id,
            standins=_standins(recipe),
            outs={name.removeprefix("dvc."): md5 for name, md5 in self._hashes().items()},
            figures=self._own_figures(),
            outcome="Promoted to champion." if outcome == CHAMPION else "Refused.",
            reasons=reasons,
        )

    def _own_figures(self) -> Mapping[str, Any]:
        figures = self.results["figures"].items()
        return {name: value for name, value in figures if self.rules.model in name.split("/") or name.startswith("vae/")}

    def _decision(self, number: str, outcome: str, reasons: list[str]) -> dict[str, Any]:
        return {"model": self.registry.name, "version": number, "outcome": outcome, "reasons": reasons}


def _data(recipe: Mapping[str, Any]) -> str:
    source = recipe["data"].get("source")
    return f"a user's own images ({source})" if source else "the procedural world and scikit-image's photographs"


def _standins(recipe: Mapping[str, Any]) -> str:
    paths = {name: part["path"] for name, part in recipe["standins"].items() if isinstance(part, Mapping) and (part.get("path") or "steps" in part)}
    return ", ".join(f"{name}: {path or 'a small stand-in trained by the line itself'}" for name, path in paths.items())
