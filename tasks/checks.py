"""``python -m tasks gate``: the Great Expectations checks of the curated data; a failure stops the flow."""

import json
from pathlib import Path

from qi2.core.errors import QI2Error
from tasks import settings


def result_file(scale: str) -> Path:
    """Where the last result stands: success, docs_path, failures."""
    return settings.ROOT / settings.runs_folder(scale) / "gate.json"


def main(scale: str) -> None:
    """Check the curated manifests. Raises QI2Error with the failed expectations and the Data Docs."""
    from tasks.gate import check_curated

    result = check_curated(settings.runs_folder(scale), scale)
    values = {"success": result.success, "docs_path": str(result.docs_path), "failures": list(result.failures)}
    result_file(scale).write_text(json.dumps(values, indent=1))
    if not result.success:
        failures = "\n".join(f"- {failure}" for failure in values["failures"])
        raise QI2Error(f"The curated data of {scale} fail their expectations:\n{failures}\nData Docs: {result.docs_path}")
