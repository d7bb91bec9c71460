"""``make rollback SCALE=tiny``: the champion before is champion again, and the one that was is not promoted anew."""

import json
import os
from typing import TYPE_CHECKING

from qi2.core.errors import QI2Error
from qi2.evaluation.summary import revision
from tasks import crown, policy, registry, settings, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient


def main(scale: str) -> None:
    """Roll back to ``QI2_TO`` (a version; else the last champion before) for the reason in ``QI2_WHY``, and write it to ``runs/SCALE/promotion.json``."""
    said = roll_back(scale, tracking.client(), os.environ.get("QI2_TO", ""), os.environ.get("QI2_WHY", ""))
    (settings.ROOT / settings.runs_folder(scale) / "promotion.json").write_text(json.dumps(said, indent=1))
    print("\n- ".join([f"{said['model']} version {said['version']}: {said['outcome']}", *said["reasons"]]))


def roll_back(scale: str, tracker: "MlflowClient", to: str, why: str) -> dict[str, object]:
    """The decision, which is also a run in MLflow. Raises QI2Error where no reason is given or there is nothing to go back to."""
    if not why.strip():
        raise QI2Error("say why, for those who ask later: make rollback WHY='hands have six fingers'")
    store = registry.Registry(tracker, f"qi2-{scale}")
    target = crown.before(store, to)
    now = store.alias(crown.CHAMPION)
    rules = policy.read_policy(settings.ROOT / "mlflow" / "promotion.yaml", scale)
    store.tag(now.version, {crown.WITHDRAWN: why, "outcome": "rolled back"})
    crown.crown(store, scale, settings.ROOT / settings.runs_folder(scale), rules.model, str(target.version))
    said: dict[str, object] = {"model": store.name, "version": str(target.version), "outcome": "champion again"}
    said |= {"reasons": [f"version {now.version} was rolled back: {why}"], "checks": []}
    tags = {"kind": "decision", "stage": "promotion", "scale": scale, "git.revision": revision(settings.ROOT), "outcome": "rollback"}
    run_id = tracking.start_run(tracker, f"qi2-{scale}", f"rollback@{scale}", tags)
    tracker.log_dict(run_id, said, "decision.json")
    tracker.set_terminated(run_id, "FINISHED")
    return said
