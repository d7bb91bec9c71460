"""Runs the journey to the VAE four times in the project of the current folder and that to RL once, loses a slot, and prints what happened as JSON."""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness


def _attempt(duplicate: bool, overrides: dict[str, Any] | None = None, journey: str = "train_vae") -> dict[str, Any]:
    from tasks.jsonl import Follower

    os.environ["PLANT_DUPLICATE"] = "1" if duplicate else ""
    before = set(Path(".qi2/progress").glob("*.jsonl"))
    flow = getattr(importlib.import_module(f"flows.{journey}"), journey)
    state = flow(scale="smoke", overrides=overrides, return_state=True)
    (progress,) = set(Path(".qi2/progress").glob("*.jsonl")) - before
    events = [line for line in Follower(progress).read() if "event" in line]
    started, ran = ([event["name"] for event in events if event.get("state") == wanted] for wanted in ("started", "finished"))
    facts = {"state": state.name, "message": state.message or "", "started": started, "ran": ran}
    facts["kept"] = sorted(path.name for path in Path("runs/smoke/.checkpoints").glob("*"))
    return {**facts, "events": [event["event"] for event in events], "recorded": _recorded()}


def _recorded() -> list[str]:
    """Stages of which a record was kept."""
    path = Path("runs/smoke/records.jsonl")
    return [json.loads(line)["stage"] for line in path.read_text().splitlines()] if path.exists() else []


def _slots_after_one_was_lost() -> dict[str, int]:
    """Slots taken when the server begins again: of the workspace without a lease, of the scale with one."""
    from flows import prefect_api, slots

    prefect_api.call("PATCH", f"/v2/concurrency_limits/{slots.WORKSPACE}", {"active_slots": 1})
    given = {"names": [slots.of_scale("smoke")], "slots": 1, "lease_duration": slots.LEASE_S}
    prefect_api.call("POST", "/v2/concurrency_limits/increment-with-lease", given)
    slots.free_lost()
    return {limit["name"]: limit["active_slots"] for limit in prefect_api.call("POST", "/v2/concurrency_limits/filter", {})}


def _night_beside_a_run() -> str:
    """What a night does whose scale another run holds."""
    from flows.nightly_eval import turn

    os.environ["QI2_NIGHTLY_WAIT_S"] = "1"

    @flow
    def night() -> str:
        with turn("smoke"):
            return "went on"

    return str(night())


def main() -> None:
    from flows import slots

    with prefect_test_harness(server_startup_timeout=180):
        os.environ["PREFECT_API_URL"] = PREFECT_API_URL.value()
        slots.create()
        results = {
            "bad_data": _attempt(duplicate=True),
            "mended": _attempt(duplicate=False, overrides={"curate.examples": 3}),
            "unchanged": _attempt(duplicate=False, overrides={"curate.examples": 3}),
            "failing_stage": _attempt(duplicate=False, overrides={"curate.examples": 3, "seed": 13}),
            "failing_beside": _attempt(duplicate=False, overrides={"curate.examples": 3, "encode.captions": 3}, journey="rlhf"),
            "slots": _slots_after_one_was_lost(),
            "night": _night_beside_a_run(),
        }
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
