"""The few calls to Prefect's REST API that the terminal needs; importing Prefect itself takes seconds."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

from qi2.core.errors import QI2Error
from tasks import settings

CONFLICT, MISSING, UNAVAILABLE = 409, 404, 503
ATTEMPTS, PAUSE_S = 10, 1.0  # while the server is busy with its database, as at its start and under load


def call(method: str, path: str, body: Any = None, accept: tuple[int, ...] = (), attempts: int = ATTEMPTS) -> Any:
    """The decoded reply of ``/api`` + ``path``; None for a status in ``accept``. A busy server is asked again.

    Raises QI2Error when the server refuses or is away.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{settings.prefect_url()}/api{path}", data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            content = reply.read()
            return json.loads(content) if content else None
    except urllib.error.HTTPError as error:
        if error.code in accept:
            return None
        if error.code == UNAVAILABLE and attempts > 1:
            time.sleep(PAUSE_S)
            return call(method, path, body, accept, attempts - 1)
        raise QI2Error(f"Prefect refused {method} {path}: {error.code} {error.read().decode(errors='replace')[:500]}") from error
    except (urllib.error.URLError, OSError) as error:
        raise QI2Error(f"The Prefect server at {settings.prefect_url()} does not answer ({error}); start it with: make up") from error


def start_run(deployment: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Create a run of a deployment such as ``full-training/prod``; returns the flow run."""
    found = call("GET", f"/deployments/name/{deployment}", accept=(MISSING,))
    if found is None:
        raise QI2Error(f"There is no deployment {deployment}; register them with: make deploy")
    return dict(call("POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters}))


def flow_run(run_id: str) -> dict[str, Any]:
    """A flow run as the server has it now."""
    return dict(call("GET", f"/flow_runs/{run_id}"))
