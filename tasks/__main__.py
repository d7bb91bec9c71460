"""``python -m tasks STAGE --scale SCALE``: what the commands of dvc.yaml call, and the steps that follow the DAG."""

import argparse
import os
import sys

from qi2.core.errors import Interrupted, QI2Error
from tasks import launch, settings

INTERRUPTED = os.EX_TEMPFAIL  # 75: told to stop; the same command goes on
AFTER = {"gate": "checks", "promote": "promote", "report": "report", "nightly": "nightly", "rollback": "rollback", "flywheel": "flywheel"}


os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait slow down whatever else runs; read when torch loads


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tasks", description=__doc__)
    parser.add_argument("stage", help=f"a stage of dvc.yaml, or one of {', '.join(AFTER)}")
    parser.add_argument("--scale", default="tiny", choices=settings.SCALES)
    given = parser.parse_args(arguments)
    launch.through_launcher(given.stage, sys.argv[1:] if arguments is None else arguments)
    try:
        _dispatch(given.stage, given.scale)
    except Interrupted as error:
        print(f"stopped: {error}", file=sys.stderr)
        return INTERRUPTED
    except QI2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _dispatch(stage: str, scale: str) -> None:
    if stage == "config":
        from tasks import config

        config.write(scale)
    elif stage in AFTER:
        import importlib

        importlib.import_module(f"tasks.{AFTER[stage]}").main(scale)
    else:
        from tasks import stage as runner

        runner.run(stage, scale)


if __name__ == "__main__":
    raise SystemExit(main())
