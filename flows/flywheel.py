"""Rounds of the data flywheel: failures are attributed, what their tracks change is trained, evaluated, offered for promotion, and reported."""

import json
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows import steps
from flows.line import Line, Scale
from tasks import config, settings
from tasks import flywheel as step


@flow(name="flywheel", flow_run_name="flywheel-{scale}")
def flywheel(scale: Scale = "tiny", rounds: int = 1) -> dict[str, Any]:
    """At most ``rounds`` rounds, and no more than ``flywheel.rounds`` of the configuration; returns where the last one stands.

    A round that waits for people ends the flow with a message; call it again when they have decided. One that acts on nothing runs no stage and ends it
    too, as does one after which an untouched category is worse. Rounds keep the overrides of the last run.
    """
    state: dict[str, Any] = {}
    for _ in range(max(1, min(rounds, config.read(scale).flywheel.rounds))):
        state = run_step(scale, step.OPEN)
        if state["phase"] != "ready":
            break
        with Line("flywheel", scale, config.local_overrides(scale), None) as line:
            if not line.unchanged:
                line.train()
                line.finish()
        state = run_step(scale, step.CLOSE)
        if state["harmed"]:
            break
    get_run_logger().info("%s", state["message"])
    return state


@task(cache_policy=NO_CACHE)
def run_step(scale: str, name: str) -> dict[str, Any]:
    """One step in a process of its own, with its report as an artifact."""
    steps.call("flywheel", scale, **{step.STEP: name})
    state: dict[str, Any] = json.loads(step.result_file(scale).read_text())
    page = settings.ROOT / Path(state["folder"]) / "report.md"
    state["harmed"] = []
    if page.exists():
        made = json.loads(page.with_suffix(".json").read_text())
        state["harmed"] = [category["name"] for category in made["categories"] if category["worse"]]
        create_markdown_artifact(markdown=page.read_text(), key=f"flywheel-{scale}-round-{state['number']}", description=state["message"])
        create_link_artifact(link=page.as_uri(), link_text=f"report of round {state['number']}", key=f"flywheel-report-{scale}")
    else:
        create_markdown_artifact(markdown=f"### Flywheel, {scale}\n\n{state['message']}", key=f"flywheel-{scale}-round-{state['number']}")
    get_run_logger().info("%s", state["message"])
    return state
