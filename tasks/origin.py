"""What a stage's checkpoints were made from: a run goes on only from those of the same inputs, parameters and code."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qi2.core.errors import QI2Error
from qi2.core.publish import write_file

FILE = "origin.json"
FINISHED = "finished"
SHOWN = 6


def check(folder: Path, facts: Mapping[str, Any], on_change: str) -> None:
    """Leave ``facts`` with the checkpoints in ``folder``; where there are some of another origin, do as ``engine.on_change`` says.

    Those of a run that has published its result (`finish`) go without a word.

    Raises QI2Error that lists what differs, where it says ``refuse``.
    """
    now = json.loads(json.dumps(facts))
    mark = folder / FILE
    before = json.loads(mark.read_text()) if mark.exists() else {}
    if before.pop(FINISHED, False) and before != now:
        shutil.rmtree(folder)
    elif any(folder.rglob("step-*")) and before != now:
        changes = _changes(before, now)
        if on_change == "refuse":
            raise QI2Error(
                f"{folder} holds checkpoints of a run with other inputs, parameters or code: {changes}. Take these back to go on; or set "
                f"engine.on_change=restart to begin anew, engine.on_change=accept to go on all the same (the result is then of neither)"
            )
        print(f"{folder}: left by a run with other inputs, parameters or code ({changes}); {on_change}", file=sys.stderr)
        if on_change == "restart":
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(mark, json.dumps(now, indent=1, sort_keys=True).encode())


def finish(folder: Path) -> None:
    """The stage has published its result. What it went on from stays until that is known to DVC, too."""
    mark = folder / FILE
    write_file(mark, json.dumps({**json.loads(mark.read_text()), FINISHED: True}, indent=1, sort_keys=True).encode())


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    told = [f"{name}: {before.get(name)} then, {now.get(name)} now" for name in names[:SHOWN]]
    return "; ".join(told) + (f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
