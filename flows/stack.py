"""The local stack: Prefect server, MLflow server and one process worker, on loopback; logs, pids and data under ``.qi2/``.

``python -m flows.stack up|down|status|ui``
"""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from flows import preflight, slots
from flows.alone import alone
from qi2.core.errors import QI2Error
from tasks import settings

POOL = "qi2"
WAIT_S = 180.0
END_S = 10.0  # a server that has not ended after so long is killed, and a flow so long after its stages' grace time
PIDS, LOGS = settings.STATE / "pids", settings.STATE / "logs"
NAMES = ("prefect", "mlflow", "worker")


def commands() -> dict[str, list[str]]:
    """The command line of each process, with its sqlite database under ``.qi2/``."""
    python = [sys.executable, "-m"]
    artifacts = settings.STATE / "mlflow" / "artifacts"
    return {
        "prefect": [*python, "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(settings.prefect_port())],
        "mlflow": [*python, "mlflow", "server", "--host", "127.0.0.1", "--port", str(settings.mlflow_port()), "--workers", "1"]
        + ["--backend-store-uri", settings.mlflow_store(), "--default-artifact-root", str(artifacts), "--no-serve-artifacts"],
        "worker": [*python, "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", "local"],
    }


def urls() -> dict[str, str]:
    """Where each server listens."""
    return {"prefect": settings.prefect_url(), "mlflow": settings.mlflow_url()}


def answers(name: str, timeout: float = 2.0) -> bool:
    """Whether the server replies to its health check; the worker has none and only has to be alive."""
    health = {"prefect": f"{urls()['prefect']}/api/health", "mlflow": f"{urls()['mlflow']}/health"}
    if name not in health:
        return process(name) is not None
    try:
        with urllib.request.urlopen(health[name], timeout=timeout) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def process(name: str) -> psutil.Process | None:
    """The running process whose pid file this project wrote, or None; a reused pid is told apart by its start time."""
    try:
        pid, started = (PIDS / name).read_text().split()
        found = psutil.Process(int(pid))
        alive = abs(found.create_time() - float(started)) < 1 and found.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, psutil.Error):
        return None
    return found if alive else None


def elsewhere(name: str) -> bool:
    """Whether PREFECT_API_URL or MLFLOW_TRACKING_URI names a server that is not this project's."""
    ports = {"prefect": settings.prefect_port(), "mlflow": settings.mlflow_port()}
    return name in ports and urls()[name] not in (f"http://127.0.0.1:{ports[name]}", f"http://localhost:{ports[name]}")


def up() -> None:
    """Start what is not running, both servers at the same time; returns when both answer. Raises QI2Error with the log's end."""
    with alone(settings.STATE / "starting", "another start of the stack"):
        _up()


def _up() -> None:
    missing = [name for name in NAMES if process(name) is None and not elsewhere(name)]
    if not missing and all(answers(name) for name in NAMES):
        return
    if problem := preflight.ports():
        raise QI2Error(problem)
    for name in missing:
        if name != "worker":
            _start(name)
    _wait("prefect")
    if "prefect" in missing:
        slots.free_lost()
    if "worker" in missing:
        _start("worker")
    _wait("mlflow")


def _start(name: str) -> None:
    for folder in (PIDS, LOGS, settings.STATE / "prefect", settings.STATE / "mlflow" / "artifacts"):
        folder.mkdir(parents=True, exist_ok=True)
    with open(LOGS / f"{name}.log", "ab") as log:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        child = subprocess.Popen(commands()[name], cwd=settings.ROOT, env=settings.environment(), start_new_session=True, **streams)
    (PIDS / name).write_text(f"{child.pid} {psutil.Process(child.pid).create_time()}")
    print(f"starting {name} (log: {(LOGS / f'{name}.log').relative_to(settings.ROOT)})", flush=True)


def _wait(name: str) -> None:
    start = time.monotonic()
    while not answers(name):
        if elsewhere(name):
            raise QI2Error(f"The {name} server that the environment names does not answer: {urls()[name]}")
        if process(name) is None or time.monotonic() - start > WAIT_S:
            why = "stopped" if process(name) is None else f"did not answer within {WAIT_S:.0f} s"
            raise QI2Error(f"The {name} server {why}. The end of {LOGS / f'{name}.log'}:\n{_tail(LOGS / f'{name}.log')}")
        time.sleep(0.25)


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def down() -> None:
    """Stop the worker first, then the servers, each with its children; a stage has the grace time for finishing its step and saving."""
    stopped = []
    for name in reversed(NAMES):
        found = process(name)
        if found is not None:
            if name == "worker":
                end_flows(found)
            _stop(found)
            stopped.append(name)
        (PIDS / name).unlink(missing_ok=True)
    print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


def end_flows(worker: psutil.Process) -> None:
    """Tell a worker's flows to stop, and them alone: each tells its stages and waits for them. Returns when all are gone, or the grace time is over."""
    family = worker.children(recursive=True)
    for flow in worker.children():
        with suppress(psutil.NoSuchProcess):
            flow.terminate()
    deadline = time.monotonic() + settings.grace_s() + END_S
    while any(map(_works, family)) and time.monotonic() < deadline:
        time.sleep(0.25)
    for left in filter(_works, family):
        with suppress(psutil.NoSuchProcess):
            left.kill()


def _works(process: psutil.Process) -> bool:
    """Whether a process runs; a dead one that nobody has asked for its status, as in many containers, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _stop(parent: psutil.Process) -> None:
    family = [*parent.children(recursive=True), parent]
    parent.terminate()
    _, alive = psutil.wait_procs(family, timeout=END_S)
    for child in alive:
        child.kill()


def status() -> None:
    """One line per process: state, address, and its pid where it runs here."""
    addresses = {**urls(), "worker": f"work pool {POOL}"}
    for name in NAMES:
        found = process(name)
        known = found is not None or elsewhere(name)
        state = "up" if known and answers(name) else "starting" if found else "down"
        print(f"{name:8} {state:9} {addresses[name]:32} {'' if found is None else f'pid {found.pid}'}")


def ui() -> None:
    """Print both addresses, and open them where there is a desktop."""
    import os
    import webbrowser

    desktop = sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    for name, url in urls().items():
        print(f"{name:8} {url}")
        if desktop:
            webbrowser.open(url)


COMMANDS: dict[str, Callable[[], None]] = {"up": up, "down": down, "status": status, "ui": ui}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        COMMANDS[arguments[0]]()
    except QI2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
