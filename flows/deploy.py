"""Registers the deployments, the concurrency limits and the automations: dead runs are marked as crashed, a night's regression is told to ``QI2_ALERT_URL``.

``python -m flows.deploy`` always does it; `deploy_if_changed` only when prefect.yaml or a flow has changed.
"""

import hashlib
import os
import subprocess
import sys
import time
from typing import Any

from flows import prefect_api, slots
from flows.stack import POOL
from qi2.core.errors import QI2Error
from tasks import settings

STAMP = settings.STATE / "prefect" / "deployed"
REGRESSION = "qi2.nightly.regression"  # the event of a night on which something fell beyond chance
ALERT = "tell of a nightly regression"
FINAL = ("Completed", "Failed", "Cancelled", "Crashed")
SILENCE_S = 120
BLOCK = "qi2-alert"
MESSAGE = '{"text": {{ event.payload.verdict | tojson }}, "page": {{ event.payload.page | tojson }}, "mlflow": {{ event.payload.mlflow | tojson }}}'
ZOMBIES = {
    "name": "mark runs without heartbeat as crashed",
    "description": "A flow run whose process is gone sends no heartbeat; it continues from its last checkpoint when it is run again.",
    "enabled": True,
    "trigger": {
        "type": "event",
        "posture": "Proactive",
        "match": {"prefect.resource.id": ["prefect.flow-run.*"]},
        "after": ["prefect.flow-run.heartbeat"],
        "expect": ["prefect.flow-run.heartbeat", *(f"prefect.flow-run.{state}" for state in FINAL)],
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        "within": SILENCE_S,
    },
    "actions": [{"type": "change-flow-run-state", "state": "CRASHED", "message": f"No heartbeat for {SILENCE_S} s: the process is gone."}],
}


def deploy_if_changed() -> None:
    """Register when something differs from the last time."""
    mark = _mark()
    if not STAMP.exists() or STAMP.read_text() != mark:
        deploy()


def deploy() -> None:
    """Register everything with the running server."""
    _wait_for_pool()
    slots.create()
    _automation(ZOMBIES["name"], ZOMBIES)
    _automation(ALERT, _alert(os.environ.get("QI2_ALERT_URL", "")))
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=settings.ROOT, env=settings.environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise QI2Error(f"prefect deploy failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")
    STAMP.write_text(_mark())
    print("deployed " + ", ".join(sorted(_names())))


def _mark() -> str:
    address = os.environ.get("QI2_ALERT_URL", "")
    files = [settings.ROOT / "prefect.yaml", *sorted((settings.ROOT / "flows").glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files) + address.encode()).hexdigest()


def _wait_for_pool(limit_s: float = 60.0) -> None:
    start = time.monotonic()
    while prefect_api.call("GET", f"/work_pools/{POOL}", accept=(prefect_api.MISSING,)) is None:
        if time.monotonic() - start > limit_s:
            raise QI2Error(f"The worker has not made its work pool; see {settings.STATE / 'logs' / 'worker.log'}")
        time.sleep(0.25)


def _automation(name: str, wanted: dict[str, Any] | None) -> None:
    """Let there be this automation of that name, or none."""
    for found in prefect_api.call("POST", "/automations/filter", {"automations": {"name": {"any_": [name]}}}):
        prefect_api.call("DELETE", f"/automations/{found['id']}")
    if wanted is not None:
        prefect_api.call("POST", "/automations/", wanted)


def _alert(url: str) -> dict[str, Any] | None:
    """The automation that posts a night's regression as JSON to a webhook; None without an address."""
    if not url:
        return None
    return {
        "name": ALERT,
        "description": "The page of the night and its MLflow run are in the message.",
        "enabled": True,
        "trigger": {"type": "event", "posture": "Reactive", "expect": [REGRESSION], "threshold": 1, "within": 0},
        "actions": [{"type": "call-webhook", "block_document_id": _webhook(url), "payload": MESSAGE}],
    }


def _webhook(url: str) -> str:
    """The id of Prefect's webhook block for an address, made or brought up to date."""
    prefect_api.call("POST", "/block_types/install_system_block_types")
    kind = prefect_api.call("GET", "/block_types/slug/webhook")["id"]
    (schema, *_) = prefect_api.call("POST", "/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})
    document = {"name": BLOCK, "data": {"method": "POST", "url": url, "headers": {"Content-Type": "application/json"}, "allow_private_urls": True}}
    found = prefect_api.call("GET", f"/block_types/slug/webhook/block_documents/name/{BLOCK}", accept=(prefect_api.MISSING,))
    if found is not None:
        prefect_api.call("DELETE", f"/block_documents/{found['id']}")
    return str(prefect_api.call("POST", "/block_documents/", {**document, "block_type_id": kind, "block_schema_id": schema["id"]})["id"])


def _names() -> list[str]:
    flows = {flow["id"]: flow["name"] for flow in prefect_api.call("POST", "/flows/filter", {})}
    return [f"{flows[found['flow_id']]}/{found['name']}" for found in prefect_api.call("POST", "/deployments/filter", {})]


if __name__ == "__main__":
    try:
        deploy()
    except QI2Error as error:
        raise SystemExit(f"error: {error}") from None
