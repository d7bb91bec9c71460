"""Stage `vlm`: give every later stage a condition encoder, a CLIP and an NSFW classifier, pretrained or trained small here."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qi2.core.errors import QI2Error
from qi2.core.pretrained import POINTER
from qi2.core.publish import publish
from qi2.core.reporter import FileReporter, Reporter, Reporters
from qi2.data.corpus import Corpus, Record, record
from qi2.data.curate_config import MOST_PIXELS
from qi2.data.shards import Sidecar
from qi2.standins.config import VLMConfig

if TYPE_CHECKING:
    import pandas as pd

    from qi2.recipe import Recipe


def train_standins(cfg: "Recipe", raw: Path, out: Path, reporter: Reporter, checkpoints: Path | None = None) -> dict[str, float]:
    """Write ``vlm``, ``clip`` and ``nsfw`` folders to ``out``; where a path is configured, a pointer file instead, also for
    an aesthetic head and an orientation classifier.

    Raises QI2Error for a head without a pretrained CLIP: it reads the image vectors of that one alone.
    """
    from qi2.standins.clip import train_clip
    from qi2.standins.nsfw import train_nsfw
    from qi2.standins.vlm import train_vlm

    if cfg.standins.aesthetic.path and not cfg.standins.clip.path:
        raise QI2Error(f"standins.aesthetic.path={cfg.standins.aesthetic.path!r} needs the CLIP that it was trained with; set standins.clip.path too")
    side = Sidecar.load(raw)
    willing = side.table[~side.table["opt_out"]]
    metrics: dict[str, float] = {}
    with publish(out) as staging:
        reporters = Reporters(reporter, FileReporter(staging))
        if not _point(staging / "vlm", cfg.standins.vlm.path):
            corpus = build_corpus(side, cfg.standins.vlm)
            metrics |= train_vlm(cfg.standins.vlm, corpus, staging / "vlm", cfg.seed, reporters, checkpoints, cfg.engine)
        if not _point(staging / "clip", cfg.standins.clip.path):
            train_clip(cfg, willing, raw, staging / "vlm", staging / "clip", reporters)
        if not _point(staging / "nsfw", cfg.standins.nsfw.path):
            train_nsfw(cfg, willing, raw, staging / "nsfw", reporters)
        _point(staging / "aesthetic", cfg.standins.aesthetic.path)
        _point(staging / "orientation", cfg.standins.orientation.path)
        reporters.metrics(metrics, 0)
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def _point(folder: Path, path: str) -> bool:
    if path:
        folder.mkdir(parents=True)
        (folder / POINTER).write_text(json.dumps({"path": path}))
    return bool(path)


def build_corpus(side: Sidecar, config: VLMConfig) -> Corpus:
    """Examples from the captioned raw rows that are no planted defects and did not opt out: a user's all, the world's of the scene kinds named, or all.

    Raises QI2Error when no training row is left.
    """
    table = side.table
    sound = (table["source"] != "defect") & ~table["opt_out"] & (table["width"] * table["height"]).between(1, MOST_PIXELS)
    usable = sound & (table["task"] != "reference") & (table["captions"].map(len) > 0)
    named = table["kind"].isin(config.kinds) | (table["task"] == "ti2i") | (table["source"] == "user") if config.kinds else usable
    chosen = table[usable & named]
    corpus = Corpus(_records(chosen[chosen["split"] == "train"]), _records(chosen[chosen["split"] == "heldout"]), side.image, config.sizes)
    if not corpus.train:
        raise QI2Error(f"{side.folder}: none of {len(table)} rows is a training image with a caption; check data.source and its .txt files")
    return corpus


def _records(table: "pd.DataFrame") -> list[Record]:
    rows: list[dict[str, Any]] = table[["id", "captions", "scene", "edit", "references"]].to_dict("records")  # type: ignore[assignment]
    return [record(row["captions"], row["scene"], row["edit"], row["id"], row["references"]) for row in rows]
