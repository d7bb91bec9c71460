"""Stage `accepted`: the data that review has accepted, kept as a version of their own and encoded for supervised fine-tuning (report section 2.4)."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.errors import QI2Error
from qi2.core.publish import publish, verify
from qi2.core.reporter import Reporter
from qi2.data.shards import SIDECAR, Sidecar

if TYPE_CHECKING:
    from qi2.recipe import Recipe

SHARDS = "shards"
STAGE = 6  # the manifest that they join: supervised fine-tuning


def keep(cfg: "Recipe", vlm: Path, vae: Path, out: Path, reporter: Reporter) -> dict[str, float]:
    """Copy the accepted shards and encode them. With none, an empty folder is published at once and no model is loaded.

    Raises QI2Error where the folder is missing, damaged, or holds a row of a held-out split.
    """
    if not cfg.accepted.path:
        return _nothing(out)
    source = Path(cfg.accepted.path)
    if not (source / SIDECAR).exists():
        raise QI2Error(f"accepted.path {source} holds no shards; run the flywheel again, or set accepted.path to nothing")
    verify(source)
    side = Sidecar.load(source)
    if wrong := side.table["id"][side.table["split"] != "train"].tolist():
        raise QI2Error(f"{source}: {len(wrong)} rows are not of split train, e.g. {wrong[0]}; held-out data may not be trained on")
    from qi2.training.encode import encode_sets

    with publish(out) as staging:
        kept = replace(cfg.encode, online=False)  # a few samples, whose shards go elsewhere
        metrics = encode_sets(kept, {STAGE: side}, vlm, vae, staging / "encoded", reporter, "accepted")
        shutil.copytree(source, staging / SHARDS)
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def _nothing(out: Path) -> dict[str, float]:
    metrics = {"accepted/samples": 0.0}
    with publish(out) as staging:
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics
