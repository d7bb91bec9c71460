"""Registers the deployments, the concurrency limits and the automation that marks dead runs as crashed.

``python -m flows.deploy`` always does it; `deploy_if_changed` only when prefect.yaml or a flow has changed.
"""

import hashlib
import subprocess
import sys
import time

from flows import prefect_api, slots
from flows.stack import POOL
from qi2.core.errors import QI2Error
from tasks import settings

STAMP = settings.STATE / "prefect" / "deployed"
FINAL = ("Completed", "Failed", "Cancelled", "Crashed")
SILENCE_S = 120
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
    _automation()
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=settings.ROOT, env=settings.environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise QI2Error(f"prefect deploy failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")
    STAMP.write_text(_mark())
    print("deployed " + ", ".join(sorted(_names())))


def _mark() -> str:
    files = [settings.ROOT / "prefect.yaml", *sorted((settings.ROOT / "flows").glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _wait_for_pool(limit_s: float = 60.0) -> None:
    start = time.monotonic()
    while prefect_api.call("GET", f"/work_pools/{POOL}", accept=(prefect_api.MISSING,)) is None:
        if time.monotonic() - start > limit_s:
            raise QI2Error(f"The worker has not made its work pool; see {settings.STATE / 'logs' / 'worker.log'}")
        time.sleep(0.25)


def _automation() -> None:
    existing = prefect_api.call("POST", "/automations/filter", {"automations": {"name": {"any_": [ZOMBIES["name"]]}}})
    for found in existing:
        prefect_api.call("DELETE", f"/automations/{found['id']}")
    prefect_api.call("POST", "/automations/", ZOMBIES)


def _names() -> list[str]:
    flows = {flow["id"]: flow["name"] for flow in prefect_api.call("POST", "/flows/filter", {})}
    return [f"{flows[found['flow_id']]}/{found['name']}" for found in prefect_api.call("POST", "/deployments/filter", {})]


if __name__ == "__main__":
    try:
        deploy()
    except QI2Error as error:
        raise SystemExit(f"error: {error}") from None
