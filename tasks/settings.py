"""Where the local stack lives and listens. Standard library only, so that reading it costs nothing.

Everything that servers and runs leave behind (databases, logs, pids, the local DVC remote) is under ``.qi2/``.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".qi2"
SCALES = ("smoke", "tiny", "small", "report")
TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
}


def prefect_port() -> int:
    """Port of the Prefect server: QI2_PREFECT_PORT, else 4200."""
    return int(os.environ.get("QI2_PREFECT_PORT", "4200"))


def mlflow_port() -> int:
    """Port of the MLflow server: QI2_MLFLOW_PORT, else 5000."""
    return int(os.environ.get("QI2_MLFLOW_PORT", "5000"))


def prefect_url() -> str:
    """Root of the Prefect server, without /api: from PREFECT_API_URL when it is set (a server elsewhere), else loopback."""
    return os.environ.get("PREFECT_API_URL", f"http://127.0.0.1:{prefect_port()}/api").removesuffix("/api")


def mlflow_url() -> str:
    """Root of the MLflow server: MLFLOW_TRACKING_URI when it is an address, else loopback."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    return given if given.startswith("http") else f"http://127.0.0.1:{mlflow_port()}"


def mlflow_store() -> str:
    """The sqlite store behind the local MLflow server."""
    return f"sqlite:///{STATE / 'mlflow' / 'mlflow.db'}"


def grace_s() -> float:
    """Seconds that a stage which was told to stop has for finishing its step and saving: QI2_GRACE_S, else 120."""
    return float(os.environ.get("QI2_GRACE_S", "120"))


def killed_tries() -> int:
    """How often a stage is tried that is killed each time: QI2_KILLED_TRIES, else 3."""
    return int(os.environ.get("QI2_KILLED_TRIES", "3"))


def retry_s() -> float:
    """Seconds before a stage is tried again: QI2_RETRY_S, else 10."""
    return float(os.environ.get("QI2_RETRY_S", "10"))


def nightly_wait_s() -> float:
    """How long a night waits for a run of its scale to end: QI2_NIGHTLY_WAIT_S, else an hour."""
    return float(os.environ.get("QI2_NIGHTLY_WAIT_S", "3600"))


def runs_folder(scale: str) -> Path:
    """Results of one scale, relative to the project root."""
    return Path("runs") / scale


def server_env() -> dict[str, str]:
    """Settings in ``mlflow/server.env``: NAME=value lines, # comments."""
    lines = (ROOT / "mlflow" / "server.env").read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")]
    return {name.strip(): value.strip() for name, value in pairs}


def environment() -> dict[str, str]:
    """The environment of every process of the stack: telemetry off, both servers' addresses, heartbeats on, and slots free soon."""
    return {
        **os.environ,
        **TELEMETRY_OFF,
        **server_env(),
        "PREFECT_HOME": str(STATE / "prefect"),
        "PREFECT_API_URL": f"{prefect_url()}/api",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "60",
        "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "60",
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "2",
        "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "4",
        "MLFLOW_TRACKING_URI": mlflow_url(),
        "PYTHONUNBUFFERED": "1",
    }
