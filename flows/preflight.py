"""Checks what a run needs before any work starts; every failure comes with its remedy.

Runs with the system's Python before anything is installed (``python3.11 flows/preflight.py``): standard library only.
"""

import ctypes
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALL_GIB, RUN_GIB, MEMORY_GIB = 8.0, 2.0, 5.0


def python_version() -> str | None:
    if sys.version_info[:2] == (3, 11):
        return None
    return f"Python {sys.version.split()[0]} is not 3.11. Install 3.11, or name it: make PYTHON=/path/to/python3.11 run"


def venv_module() -> str | None:
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return None
    return "Python has no venv module. On Debian and Ubuntu: apt-get install python3.11-venv"


def git() -> str | None:
    if not (ROOT / ".git").exists():
        return None
    return None if shutil.which("git") else "git is not installed. On Debian and Ubuntu: apt-get install git"


def fribidi() -> str | None:
    """Pillow lays out text with libraqm, which loads this library at run time; without it letters are drawn differently."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        ctypes.CDLL("libfribidi.so.0")
    except OSError:
        return "libfribidi.so.0 is missing (Pillow lays out text with it). On Debian and Ubuntu: apt-get install libfribidi0"
    return None


def disk() -> str | None:
    need = RUN_GIB if (ROOT / ".venv" / ".installed").exists() else INSTALL_GIB
    free = shutil.disk_usage(ROOT).free / 2**30
    if free >= need:
        return None
    have = f"Only {free:.1f} GiB are free on the disk of {ROOT}"
    return f"{have}; {need:.0f} GiB are needed. Free some space (make clean deletes results)."


def memory() -> str | None:
    available = available_gib()
    if available is None or available >= MEMORY_GIB:
        return None
    have = f"Only {available:.1f} GiB of memory are available"
    return f"{have}; {MEMORY_GIB:.0f} GiB are needed. Close other programs, or use a larger machine."


def available_gib() -> float | None:
    """Memory that can be used without swapping, or None where the system does not say. Respects a container's limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable")), None)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if free is not None and limit.exists() and used.exists() and limit.read_text().strip().isdigit():
        free = min(free, (int(limit.read_text()) - int(used.read_text())) / 2**30)
    return free


def ports() -> str | None:
    """Both ports must be free, or held by this project's own servers (their pid files say so)."""
    for name, variable, default in (("prefect", "QI2_PREFECT_PORT", "4200"), ("mlflow", "QI2_MLFLOW_PORT", "5000")):
        text = os.environ.get(variable, default)
        if not text.isdigit() or not 0 < int(text) < 65536:
            return f"{variable}={text} is not a port number. Set it to a free port, e.g. {variable}={default}"
        if not _own_server(name) and _listening(int(text)):
            remedy = f"Stop it, or choose another port: {variable}={int(text) + 1} make run"
            return f"Port {text} (for the {name} server) is in use by another program. {remedy}"
    return None


def _own_server(name: str) -> bool:
    record = ROOT / ".qi2" / "pids" / name
    if not record.exists():
        return False
    try:
        os.kill(int(record.read_text().split()[0]), 0)
    except (OSError, ValueError, IndexError):
        return False
    return True


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


CHECKS: dict[str, Callable[[], str | None]] = {
    "python": python_version,
    "venv": venv_module,
    "git": git,
    "fribidi": fribidi,
    "disk": disk,
    "memory": memory,
    "ports": ports,
}
SETUP = ("python", "venv", "git", "fribidi", "disk")


def problems(names: tuple[str, ...] = tuple(CHECKS)) -> list[str]:
    """What stands in the way, each with its remedy; empty when all is well."""
    return [text for name in names if (text := CHECKS[name]()) is not None]


def main(arguments: list[str]) -> int:
    found = problems(SETUP if "--setup" in arguments else tuple(CHECKS))
    for text in found:
        print(f"preflight: {text}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
