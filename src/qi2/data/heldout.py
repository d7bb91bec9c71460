"""Held-out rows that may judge a model: all but those that curation rejects because earlier data trained on copies of them."""

from pathlib import Path

from qi2.data.curate_config import STAGES
from qi2.data.shards import Sidecar

HELDOUT = "heldout"  # the split, and the reason why its other rows are in no stage


def judges(raw: Path, curated: Path | None) -> Sidecar:
    """The rows of the raw folder without held-out ones that the folder of the stage `curate` rejects; all where nothing was curated."""
    import pandas as pd

    sidecar = Sidecar.load(raw)
    if curated is None or not (curated / "scores.parquet").exists():
        return sidecar
    reason = f"reason_{STAGES[-1]}"
    scores = pd.read_parquet(curated / "scores.parquet", columns=["id", "split", reason])
    rejected = scores["id"][(scores["split"] == HELDOUT) & (scores[reason] != HELDOUT)]
    return Sidecar(sidecar.folder, sidecar.table[~sidecar.table["id"].isin(rejected)].reset_index(drop=True)) if len(rejected) else sidecar
