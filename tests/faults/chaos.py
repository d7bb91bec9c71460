"""``make chaos``: the whole line at scale smoke, killed again and again, must end with the bytes of an undisturbed one.

A copy of the project in ``.qi2/chaos/project``, with servers on ports of its own, makes the line once undisturbed and once under a `Hunt`: CHAOS_KILLS (50)
SIGKILLs at moments drawn from CHAOS_SEED (0) in stages, in DVC and in flows, with a checkpoint after every step. A stage that is killed, or whose DVC is, is
tried again by its Prefect task. A flow that is killed is marked crashed by the worker, and this driver retries the same flow run by setting its
state to AwaitingRetry through Prefect's API, as "Retry" in its UI does. It does so after half a minute: the worker reports a crash twice, up to a quarter
of a minute apart, and the second report would strike the retry. The slot of the killed one is free a minute after its last sign of life in any case.
Ends with 1 and a list where a file differs (`bytes` says what is compared). The undisturbed bytes are kept for the next time, as long as what makes them
is the same.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows import prefect_api
from flows.run import state_of
from tasks import settings
from tests.faults.bytes import differences, fingerprints
from tests.faults.hunt import Clock, Hunt, clocks

SCALE, DEPLOYMENT = "smoke", "full-training/prod"
HOME = settings.STATE / "chaos"
PROJECT, UNDISTURBED = HOME / "project", HOME / "undisturbed.json"
LEFT_OUT = (".venv", "runs", ".qi2", ".git", "cache", "tmp", "dvc.lock", "resolved", "local", "__pycache__", ".*_cache", "*.egg-info")
MAKERS = ("src", "tasks", "conf", "dvc.yaml", "requirements.lock")
PORTS = {"QI2_PREFECT_PORT": "4291", "QI2_MLFLOW_PORT": "5091"}
EVERY_STEP = {"engine.checkpoint_steps": 1}
AGAIN_FROM = "pretrain"  # where the line is forced to begin again when it has ended before enough was killed
ASK_S, SETTLE_S, PER_KILL_S, PER_LINE_S = 1.0, 30.0, 180.0, 1800.0


def main() -> int:
    wanted, seed = int(os.environ.get("CHAOS_KILLS", "50")), int(os.environ.get("CHAOS_SEED", "0"))
    started = time.monotonic()
    copy()
    os.environ.update(PORTS | {"QI2_KILLED_TRIES": "1000", "QI2_RETRY_S": "1"})
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        os.environ.pop(name, None)
    check_copy()
    try:
        python("-m", "flows.stack", "up")
        python("-m", "flows.deploy")
        expected, times = undisturbed()
        hunt = Hunt(PROJECT, SCALE, times, seed)
        kill_and_mend(hunt, wanted)
    finally:
        python("-m", "flows.stack", "down")
    different = differences(expected, fingerprints(PROJECT, SCALE))
    said = "every byte is that of the undisturbed line" if not different else "\n".join(different)
    print(f"{hunt.table()}\n{len(hunt.kills)} kills in {time.monotonic() - started:.0f} s; {len(expected)} files: {said}")
    return 1 if different else 0


def copy() -> None:
    """The working tree, without results; what the servers of an earlier copy keep stays."""
    for path in PROJECT.glob("*"):
        if path.name != ".qi2":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(settings.ROOT, PROJECT, ignore=shutil.ignore_patterns(*LEFT_OUT), dirs_exist_ok=True)
    (PROJECT / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    wipe()


def wipe() -> None:
    """Remove every result."""
    for name in ("runs", ".dvc/cache", ".dvc/tmp", "conf/local", "conf/resolved"):
        shutil.rmtree(PROJECT / name, ignore_errors=True)
    (PROJECT / "dvc.lock").unlink(missing_ok=True)


def python(*command: str) -> str:
    """Run Python in the copy, where its own flows, tasks and library come first; returns what it printed."""
    folder = str(Path(sys.executable).parent)
    own = {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "src")]), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, *command], cwd=PROJECT, env={**os.environ, **own}, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed in {PROJECT}:\n{done.stdout}")
    return done.stdout


def check_copy() -> None:
    """An installed package must not come before the copy's own."""
    found = python("-c", "import flows, qi2, tasks; print(flows.__file__, qi2.__file__, tasks.__file__)").split()
    if any(not path.startswith(str(PROJECT)) for path in found):
        raise SystemExit(f"the copy would run other code than its own: {', '.join(found)}")


def undisturbed() -> tuple[dict[str, str], dict[str, Clock]]:
    """The bytes of a line that nobody disturbs, and how long its stages take."""
    kept, key = json.loads(UNDISTURBED.read_text()) if UNDISTURBED.exists() else {}, makers()
    if kept.get("key") != key:
        travel({})
        times = {stage: asdict(clock) for stage, clock in clocks(PROJECT / "runs" / SCALE).items()}
        kept = {"key": key, "bytes": fingerprints(PROJECT, SCALE), "times": times}
        UNDISTURBED.write_text(json.dumps(kept, indent=1))
        wipe()
    return kept["bytes"], {stage: Clock(**clock) for stage, clock in kept["times"].items()}


def makers() -> str:
    """A hash of all in the copy that the bytes come from."""
    digest = hashlib.sha256()
    for name in MAKERS:
        path = PROJECT / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                digest.update(file.relative_to(PROJECT).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def kill_and_mend(hunt: Hunt, wanted: int) -> None:
    """Make the line under the hunt, and its later part again until enough was killed."""
    hunt.plan(wanted, hunt.order)
    travel({"overrides": EVERY_STEP}, hunt, wanted)
    while len(hunt.kills) < wanted:
        hunt.left.clear()
        hunt.blows.clear()
        hunt.plan(wanted - len(hunt.kills), [stage for stage in hunt.order if stage in hunt.dag.downstream({AGAIN_FROM})])
        travel({"overrides": EVERY_STEP, "from_stage": AGAIN_FROM}, hunt, wanted - len(hunt.kills))


def travel(parameters: dict[str, Any], hunt: Hunt | None = None, kills: int = 0) -> None:
    """Run the deployment to its end, and retry the run whenever it has crashed. Ends the program where it fails or takes too long."""
    run = prefect_api.start_run(DEPLOYMENT, {"scale": SCALE, **parameters})["id"]
    started, asked, told = time.monotonic(), 0.0, len(hunt.kills) if hunt else 0
    print(f"{'killed' if hunt else 'undisturbed'} line {parameters}: {settings.prefect_url()}/runs/flow-run/{run}", flush=True)
    while time.monotonic() - started < PER_LINE_S + PER_KILL_S * kills:
        hunt.look() if hunt else time.sleep(ASK_S)
        for stage, victim, place in hunt.kills[told:] if hunt else []:
            told += 1
            print(f"{time.monotonic() - started:6.0f} s  kill {told}: {victim} of {stage}, {place}", flush=True)
        if time.monotonic() - asked > ASK_S:
            asked, state = time.monotonic(), state_of(run)
            if state["type"] == "COMPLETED":
                print(f"{time.monotonic() - started:6.0f} s  the line has ended", flush=True)
                return
            if state["type"] == "CRASHED":
                time.sleep(SETTLE_S)
                print(f"{time.monotonic() - started:6.0f} s  the flow has crashed and is retried", flush=True)
                retry(run)
            if state["type"] in ("FAILED", "CANCELLED"):
                raise SystemExit(f"the line ended as {state['type']}: {state['message']}")
    raise SystemExit("the line has not ended in time")


def retry(run: str) -> None:
    """Have the worker start a crashed flow run once more."""
    prefect_api.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True})


if __name__ == "__main__":
    raise SystemExit(main())
