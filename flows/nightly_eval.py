"""Every night: champion and challenger on that night's subset of held-out prompts, against earlier nights."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.concurrency.sync import concurrency
from prefect.events import emit_event
from prefect.runtime import flow_run

from flows import slots, steps
from flows.deploy import REGRESSION
from flows.line import Scale
from tasks import nightly, settings, tracking


@flow(name="nightly-eval", flow_run_name="nightly-eval-{scale}")
def nightly_eval(scale: Scale = "tiny") -> dict[str, Any]:
    """Evaluate the registry's champion and challenger, log to MLflow, and say what changed beyond chance; a fall sounds the alarm.

    Works in a folder of its own: neither dvc.lock nor the results of the line are touched.
    """
    with turn(scale):
        result = evaluate_registered(scale)
    if result["models"]:
        say_what_changed(scale, result)
    else:
        get_run_logger().info("the registry has no champion and no challenger of scale %s; nothing to evaluate", scale)
    return result


@contextmanager
def turn(scale: str) -> Iterator[None]:
    """The slot of the scale, so that no run replaces the data meanwhile or computes beside it; after QI2_NIGHTLY_WAIT_S it goes on without."""
    with ExitStack() as held:
        try:
            slot, wait = slots.of_scale(scale), settings.nightly_wait_s()
            held.enter_context(concurrency(slot, timeout_seconds=wait, lease_duration=slots.LEASE_S, raise_on_lease_renewal_failure=False))
        except TimeoutError:
            get_run_logger().warning("another run of scale %s has not ended in %g s; this night goes on beside it", scale, wait)
        yield


@task(retries=1, retry_delay_seconds=30, cache_policy=NO_CACHE)
def evaluate_registered(scale: str) -> dict[str, Any]:
    """Run the evaluation in a process of its own and return what it wrote."""
    steps.call("nightly", scale, QI2_FLOW_RUN=str(flow_run.id))
    return dict(json.loads(nightly.result_file(scale).read_text()))


@task(cache_policy=NO_CACHE)
def say_what_changed(scale: str, result: dict[str, Any]) -> None:
    """One sentence, all comparisons as a table, the page, and an event where something fell: automations listen to it."""
    if result["rows"]:
        create_table_artifact(table=result["rows"], key=f"nightly-{scale}", description=result["verdict"])
    create_markdown_artifact(markdown=f"### Nightly evaluation, {scale}\n\n{result['verdict']}", key=f"nightly-verdict-{scale}")
    create_link_artifact(link=Path(result["page"]).as_uri(), link_text="page of this night", key=f"nightly-page-{scale}")
    link = tracking.run_link(result["mlflow_run"], result["experiment"])
    create_link_artifact(link=link, link_text="MLflow run of this night", key=f"nightly-mlflow-{scale}")
    get_run_logger().info(result["verdict"])
    if result["alert"]:
        resource = {"prefect.resource.id": f"qi2.nightly.{scale}", "prefect.resource.name": f"nightly evaluation, {scale}"}
        emit_event(REGRESSION, resource=resource, payload={"verdict": result["verdict"], "page": result["page"], "mlflow": link})
