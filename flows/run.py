"""``make run``: bring the stack up, deploy, trigger a deployment, and follow it in the terminal.

``python -m flows.run [--deployment full-training/prod] [--scale tiny] [--set sft.steps=200 ...] [--from-stage sft]``
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import yaml

from flows import deploy, prefect_api, preflight, stack, terminal
from qi2.core.errors import QI2Error
from tasks import settings
from tasks.jsonl import Follower

READ_S, ASK_S, PATIENCE_S = 0.5, 3.0, 120.0  # the file is cheap to read; every question costs the server some work
LAST_WORDS = {"failed", "unchanged", "finished"}
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.run", description=__doc__)
    parser.add_argument("--deployment", default="full-training/prod")
    parser.add_argument("--scale", default="tiny", choices=settings.SCALES)
    parser.add_argument("--from-stage", help="run this stage and all that follow even when nothing has changed")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="configuration for this run, e.g. sft.steps=200")
    given = parser.parse_args(arguments)
    try:
        return run(given.deployment, parameters(given.scale, given.set, given.from_stage))
    except QI2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parameters(scale: str, assignments: Sequence[str], from_stage: str | None) -> dict[str, Any]:
    """A flow's parameters from the command line's. Raises QI2Error for an assignment without '='."""
    overrides = {}
    for text in assignments:
        key, sign, value = text.partition("=")
        if not sign:
            raise QI2Error(f"{text!r} has no '='; write KEY=VALUE, e.g. sft.steps=200")
        overrides[key] = yaml.safe_load(value)
    optional = {"overrides": overrides or None, "from_stage": from_stage}
    return {"scale": scale, **{name: value for name, value in optional.items() if value is not None}}


def run(deployment: str, values: dict[str, Any]) -> int:
    """Trigger and follow; 0 when the run completed, 130 when it is no longer followed."""
    started = time.monotonic()
    if problems := preflight.problems():
        raise QI2Error("\n".join(problems))
    stack.up()
    deploy.deploy_if_changed()
    created = prefect_api.start_run(deployment, values)
    print(f"{deployment} {json.dumps(values)}: run {created['name']}, {settings.prefect_url()}/runs/flow-run/{created['id']}", flush=True)
    try:
        state = follow(created["id"])
    except KeyboardInterrupt:
        print("\nno longer followed; the run goes on (make down stops it, and the next run continues from its last checkpoint)")
        return 130
    terminal.summary(deployment, values["scale"], created["id"], state, time.monotonic() - started)
    return 0 if state["type"] == "COMPLETED" else 1


def follow(run_id: str) -> dict[str, Any]:
    """Show progress until the run has ended; returns its last state."""
    events = Follower(settings.STATE / "progress" / f"{run_id}.jsonl")
    screen, state, asked, ending = terminal.Screen(), state_of(run_id), time.monotonic(), False
    while True:
        news = events.read()
        for event in news:
            screen.event(event)
        if state["type"] in FINAL:
            screen.close()
            return state
        screen.tick(state["name"])
        time.sleep(READ_S)
        ending = ending or any(event.get("event") in LAST_WORDS for event in news)
        if ending or state["type"] != "RUNNING" or time.monotonic() - asked > ASK_S:
            state, asked = state_of(run_id), time.monotonic()


def state_of(run_id: str) -> dict[str, Any]:
    """The run's state; a server that is too busy to answer while a stage trains is asked again."""
    start = time.monotonic()
    while True:
        try:
            return dict(prefect_api.flow_run(run_id)["state"])
        except QI2Error:
            if time.monotonic() - start > PATIENCE_S:
                raise
            time.sleep(2)


if __name__ == "__main__":
    raise SystemExit(main())
