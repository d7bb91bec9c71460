"""Runs the journey to the VAE four times in the project of the current folder, and prints what each did as JSON."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from prefect.testing.utilities import prefect_test_harness


def _attempt(duplicate: bool, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    from flows.train_vae import train_vae
    from tasks.jsonl import Follower

    os.environ["PLANT_DUPLICATE"] = "1" if duplicate else ""
    before = set(Path(".qi2/progress").glob("*.jsonl"))
    state = train_vae(scale="smoke", overrides=overrides, return_state=True)
    (progress,) = set(Path(".qi2/progress").glob("*.jsonl")) - before
    events = [line for line in Follower(progress).read() if "event" in line]
    ran = [event["name"] for event in events if event.get("state") == "finished"]
    return {"state": state.name, "message": state.message or "", "ran": ran, "events": [event["event"] for event in events]}


def main() -> None:
    with prefect_test_harness(server_startup_timeout=180):
        results = {
            "bad_data": _attempt(duplicate=True),
            "mended": _attempt(duplicate=False, overrides={"curate.examples": 3}),
            "unchanged": _attempt(duplicate=False, overrides={"curate.examples": 3}),
            "failing_stage": _attempt(duplicate=False, overrides={"curate.examples": 3, "seed": 13}),
        }
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
