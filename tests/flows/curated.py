"""A curated folder as the curate stage publishes it, small enough to read; ``duplicate`` plants an id that occurs twice."""

import hashlib
import json
from pathlib import Path

import pandas as pd

STAGES = [f"stage{number}" for number in range(1, 7)]


def _rows(n: int) -> pd.DataFrame:
    hashes = [hashlib.sha256(str(index).encode()).hexdigest() for index in range(n)]
    return pd.DataFrame(
        {
            "id": [f"image{index}" for index in range(n)],
            "shard": "000000.tar",
            "offset": range(n),
            "length": 100,
            "licence": "CC0-1.0",
            "split": "train",
            "task": "t2i",
            "role": "image",
            "captions": [["a red circle"]] * n,
            "references": [[]] * n,
            "sha256": hashes,
            "pixel_sha256": hashes,
            "short_side": 64,
            "side": 64,
            "bucket": "64x64",
            "weight": 1 / n,
            "nsfw": 0.01,
            "clip": 0.5,
            "entropy": 4.0,
            "difference_entropy": 4.0,
            "jpeg_quality": 90.0,
            "blockiness": 0.1,
            "broken": None,
        }
    )


def write(folder: Path, duplicate: bool) -> None:
    """Six manifests, the scores of all rows, and the funnel."""
    rows = _rows(12)
    scores = pd.concat([rows, _rows(13).tail(1).assign(split="heldout")])
    if duplicate:
        rows.loc[1, "id"] = "image0"
    limits = {"survival": [0.5, 1.0], "sides": [64], "max_nsfw": 0.5, "min_clip": 0.1}
    funnel = {name: {"in": 12, "kept": 12, "rejected": {}, "thresholds": limits} for name in STAGES}
    for name in STAGES:
        rows.to_parquet(folder / f"{name}.parquet")
    scores.to_parquet(folder / "scores.parquet")
    (folder / "funnel.json").write_text(json.dumps(funnel))
