"""What a changed threshold and the data gate cost at a million rows, from stored scores alone: ``python -m benchmarks.sidecar``.

A score table of ``--rows`` rows is made up from known distributions (images, one edit in ten with its reference). ``rethreshold_s``: one stage's
thresholds applied to all rows, with reasons, references, balance and funnel; ``stages_s``: all six stages. ``gate_s``: the Great
Expectations suite of one stage over what it keeps, with Data Docs. Wall seconds on this machine, with ``sort_s``, NumPy's sort of ten million
numbers in the same process, to compare machines by.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qi2.data.buckets import bucket_columns
from qi2.data.curate_config import CurateConfig, thresholds
from qi2.data.stages import run_stage, run_stages


def scores(rows: int, seed: int = 0) -> pd.DataFrame:
    """Score columns as curation stores them."""
    draw = np.random.default_rng(seed)
    digits = np.array([f"{value:064x}" for value in range(rows)], dtype=object)
    role = np.where(np.arange(rows) % 20 == 0, "pair", np.where(np.arange(rows) % 20 == 1, "reference", "image")).astype(object)
    ids = np.array([f"row-{index:08d}" for index in range(rows)], dtype=object)
    width, height = draw.choice([384, 640, 1024, 1600, 2400], (2, rows))
    columns: dict[str, Any] = {"id": ids, "sha256": digits, "pixel_sha256": digits, "role": role, "split": "train", "broken": None, "shard": "shard-0000.tar"}
    columns["task"] = np.select([role == "pair", role == "reference"], ["ti2i", "reference"], "t2i")
    columns |= {"offset": np.arange(rows), "length": 1000, "width": width, "height": height, "orientation": 1.0, "licence": "CC0-1.0", "opt_out": False}
    columns |= {"short_side": np.minimum(width, height).astype(float), "long_side": np.maximum(width, height).astype(float), "aspect": width / height}
    columns |= {
        "exact_duplicate_of": None,
        "near_duplicate_of": None,
        "semantic_duplicate_of": None,
        "source": "user",
        "caption_kind": draw.choice(["general", "text"], rows),
    }
    columns |= {"kind": draw.choice([f"kind{number}" for number in range(12)], rows), "nsfw": draw.beta(1, 20, rows), "clip": draw.normal(0.3, 0.05, rows)}
    columns |= {"entropy": draw.normal(6.5, 0.7, rows).clip(0, 8), "difference_entropy": draw.normal(4.5, 0.7, rows).clip(0, 8)}
    columns |= {"tokens_min": draw.integers(1, 60, rows).astype(float), "tokens_max": draw.integers(60, 200, rows).astype(float)}
    columns |= {"sharpness": draw.gamma(4, 4, rows), "aesthetic": draw.gamma(4, 8, rows), "jpeg_quality": draw.integers(40, 101, rows).astype(float)}
    columns |= {"blockiness": draw.beta(1, 12, rows), "pair_change": 0.5, "pair_outside": 0.0, "pair_similarity": 0.9, "region": None}
    columns |= {"upright": np.nan}  # its classifier is off by default
    table = pd.DataFrame(columns)
    table["references"] = [[ids[row + 1]] if role[row] == "pair" and row + 1 < rows else [] for row in range(rows)]
    table["captions"] = [["a caption"]] * rows
    return table


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def gate(table: pd.DataFrame, limits: dict[str, Any], folder: Path) -> list[str]:
    """The suite of one stage, as the flow runs it."""
    from tasks.gate import stage_suite, stage_table, validate

    return validate("benchmark", {"stage4": (stage_table(table), stage_suite(limits))}, folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sidecar", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    table, config = scores(given.rows), CurateConfig()
    sort_s, _ = seconds(lambda: np.sort(np.random.default_rng(0).random(10_000_000)))
    stages_s, (reasons, funnel) = seconds(lambda: run_stages(table, config, 0))
    limits = thresholds(config)["stage4"]
    one_s, _ = seconds(lambda: run_stage(table, reasons["stage3"], limits, config, 0))
    kept = table[pd.isna(pd.Series(reasons["stage4"], dtype=object))]
    kept = kept.assign(**bucket_columns(kept, limits))
    with tempfile.TemporaryDirectory() as name:
        gate_s, failures = seconds(lambda: gate(kept, funnel["stage4"]["thresholds"], Path(name) / "docs"))
    values = {"rows": given.rows, "kept": len(kept), "rethreshold_s": one_s, "stages_s": stages_s, "gate_s": gate_s, "sort_s": sort_s}
    print(json.dumps({name: round(value, 3) for name, value in values.items()} | {"failures": failures}))


if __name__ == "__main__":
    main()
