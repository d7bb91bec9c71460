"""The bytes of all that a line of stages has made, and what differs between two of them.

Left out, because two undisturbed runs differ in it: the entries ``seconds`` of ``evaluate/results.json``, and that file's hash in its manifest.
Beside the stages' outputs, metrics and plots there are only records of when what ran (events, logs, records, timings, promotion, data docs,
report, the seconds in ``.scores``), which are not results.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.dag import Dag

RESULTS, MANIFEST, TIME = "results.json", "manifest.json", "seconds"


def fingerprints(root: Path, scale: str) -> dict[str, str]:
    """{path relative to the project: SHA-256} of every file among the outputs, metrics and plots of the stages in dvc.yaml."""
    found = {}
    for stage in Dag(scale, root).stages.values():
        for out in stage.outs:
            files = sorted((root / out).rglob("*")) if (root / out).is_dir() else [root / out]
            found |= {path.relative_to(root).as_posix(): _fingerprint(path) for path in files if path.is_file()}
    return found


def _fingerprint(path: Path) -> str:
    data = path.read_bytes()
    if path.parent.name == "evaluate" and path.name in (RESULTS, MANIFEST):
        data = json.dumps(_without(json.loads(data), TIME if path.name == RESULTS else RESULTS), sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def _without(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _without(child, key) for name, child in value.items() if name != key}
    return [_without(child, key) for child in value] if isinstance(value, list) else value


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """One line per file that is missing, superfluous or other than expected."""
    names = sorted({*expected, *found})
    kinds = {name: "missing" if name not in found else "superfluous" if name not in expected else "differs" for name in names}
    return [f"{kinds[name]}: {name}" for name in names if expected.get(name) != found.get(name)]
