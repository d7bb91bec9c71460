"""Runs the flywheel's flow in the project of the current folder, on untrained models whose every picture fails, and prints what happened as JSON."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

CASES = {
    "nothing": "flywheel: {mining: {prompts: 11}, decide: {least: 1000}}",  # no group is large enough
    "waiting": "flywheel: {candidates: 6}",
    "again": "flywheel: {candidates: 6}",
}
SMALL = "data: {world_images: 80, rich_images: 6, edit_pairs: 40, photo_crops: 0, heldout_images: 20, heldout_edits: 7, heldout_crops: 0}\n"
SMALL += "evaluate: {prompts_per_kind: 5, edits_per_kind: 1, vae_world: 20, vae_photos: 0, chain_steps: 2, steps: 2, workers: 0}\n"
PROBES = "probes: {samples: 4, variant: 2, paraphrases: 1, each: 2}"


def build() -> None:
    """Models that were never trained, and their evaluation."""
    from qi2.core.reporter import NullReporter
    from qi2.evaluation.evaluate import evaluate
    from tasks import config, ingest
    from tests.evaluation.untrained import build_run

    runs = build_run(Path("runs/smoke"), ("sft",))
    recipe = config.read("smoke")
    ingest.run(recipe, runs, runs / "raw", NullReporter())
    evaluate(recipe, runs, runs / "evaluate", NullReporter())


def resolve(text: str) -> None:
    from tasks import config

    path = Path("conf/local/smoke.yaml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(SMALL + text.replace("flywheel: {", f"flywheel: {{{PROBES}, "))
    config.write("smoke")


def attempt(text: str) -> dict[str, Any]:
    from flows.flywheel import flywheel

    resolve(text)
    state = flywheel(scale="smoke", rounds=3, return_state=True)
    result = state.result(raise_on_failure=False)
    facts = result if isinstance(result, dict) else {"error": str(result)}
    stages = [path.name for path in Path(".qi2/progress").glob("*.jsonl")] if Path(".qi2/progress").exists() else []
    kept = {name: facts.get(name) for name in ("phase", "number", "message", "counts", "overrides", "error", "pending")}
    kept["mined"] = facts.get("provenance", {}).get("mined")
    return {"state": state.name, "stages": stages, "layer": Path("conf/flywheel/smoke.yaml").exists(), **kept}


def main() -> None:
    from flows import slots

    resolve("flywheel: {}")
    build()
    with prefect_test_harness(server_startup_timeout=180):
        os.environ["PREFECT_API_URL"] = PREFECT_API_URL.value()
        slots.create()
        results = {name: attempt(text) for name, text in CASES.items()}
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
