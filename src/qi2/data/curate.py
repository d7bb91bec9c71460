"""Curation (report 2.3, Figure 6): every row scored once, thresholds per training stage, everything rejected with a reason.

Writes ``scores.parquet`` (all rows with scores and ``reason_stageN``, null where kept), ``stageN.parquet`` (the kept training
rows), ``funnel.json``, ``README.md`` (the dataset card), ``rejected/REASON_k.png`` and ``metrics.json``. Held-out rows are scored
but enter no training manifest.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qi2.core.pretrained import model_source, processor_source
from qi2.core.publish import publish
from qi2.core.reporter import Reporter
from qi2.data import drift, exempt, truth
from qi2.data.buckets import bucket_columns
from qi2.data.card import card
from qi2.data.curate_config import STAGES, CurateConfig, thresholds
from qi2.data.executors import local
from qi2.data.filters import aesthetic, exact, near, pair, semantic
from qi2.data.filters.models import ModelPaths
from qi2.data.filters.registry import FILTERS
from qi2.data.recaption import recaption
from qi2.data.rejected import save_examples
from qi2.data.shard_scores import Executor, score_rows
from qi2.data.shards import Sidecar
from qi2.data.stages import HELDOUT, NOT_ADMITTED, first_reason, kept, roles, run_stages

if TYPE_CHECKING:
    import pandas as pd


MODELS = {"tokenizer": "vlm", "clip": "clip", "nsfw": "nsfw"}  # and their folders among the stand-ins
OPTIONAL = ("aesthetic", "orientation")  # in folders of their own names, only where the config gives one


class CurationRecipe(Protocol):
    """The part of the recipe that curation reads."""

    @property
    def seed(self) -> int: ...

    @property
    def curate(self) -> CurateConfig: ...


def curate(cfg: CurationRecipe, raw: Path, standins: Path, out: Path, reporter: Reporter, work: Path | None = None, executor: Executor | None = None) -> None:
    """Curate the folder ``raw`` of the ingest stage with the models in ``standins``: trained small, or pointers to real ones.

    ``work`` keeps the shards' scores, for a run that was killed and for one with other thresholds; ``executor``: else processes of this machine.
    """
    raw, paths = Path(raw), model_paths(Path(standins), cfg.curate)
    exempt.check(cfg.curate)
    aesthetic.check_thresholds(thresholds(cfg.curate), paths.aesthetic)
    work = work or out.with_name(f".{out.name}.scores")
    table, peak = score(recaption(Sidecar.load(raw).table, cfg.curate), raw, paths, cfg.curate, work, executor)
    if peak:
        reporter.metrics({"curate/worker_peak_mib": peak}, 0)
    reasons, funnel = run_stages(table, cfg.curate, cfg.seed)
    if cfg.curate.exempt:
        table["exempt"] = exempt.told(table, cfg.curate)
    for name, reason in reasons.items():
        table[f"reason_{name}"] = reason
    metrics = flat_metrics(table, funnel)
    moved = drift.track(table, kept(reasons[STAGES[0]]), funnel, work)
    reporter.metrics({f"curate/drift/{name}": value for name, value in moved.items()}, 0)
    with publish(out) as staging:
        write_tables(table, cfg.curate, staging)
        (staging / "funnel.json").write_text(json.dumps(funnel, indent=1))
        (staging / "README.md").write_text(card(table, funnel, paths, stand_ins(Path(standins), paths)))
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
        examples = save_examples(table, first_rejections(table), raw, staging / "rejected", cfg.curate.examples, cfg.seed)
        reporter.metrics(metrics, 0)
        for path in examples:
            reporter.file(path)


def stand_ins(standins: Path, paths: ModelPaths) -> list[str]:
    """Which models were trained by the project."""
    return [name for name, folder in MODELS.items() if getattr(paths, name) == str(standins / folder)]


def model_paths(standins: Path, config: CurateConfig) -> ModelPaths:
    """The models in the folder of the stage that provides them."""
    given = {name: name for name in OPTIONAL if (standins / name).exists()}
    found = {name: (processor_source if name == "tokenizer" else model_source)(standins / folder) for name, folder in (MODELS | given).items()}
    return ModelPaths(**found, nsfw_label=config.nsfw_label)


def score(
    rows: "pd.DataFrame", raw: Path, paths: ModelPaths, config: CurateConfig, work: Path, executor: Executor | None = None
) -> tuple["pd.DataFrame", float]:
    """The sidecar's rows with ``role`` and all score columns, duplicates included; and the largest worker in MiB, 0 where nothing was to score."""
    table = rows.assign(role=roles(rows)).reset_index(drop=True)
    scores, peak, stored = score_rows(table, raw, paths, config, work, executor or local(config.workers))
    table = table.join(scores)
    table[list(pair.COLUMNS)] = pair.columns(table, stored["thumbnail"])
    others = tuple(item for item in FILTERS if item not in (exact.FILTER, near.FILTER, semantic.FILTER))
    table["phash"] = near.hashes(stored["thumbnail"])
    passes = kept(first_reason(table, thresholds(config)["stage1"], config, others))
    table["exact_duplicate_of"] = exact.duplicate_of(table, passes)
    table["near_duplicate_of"] = near.duplicate_of(table, passes, config, stored["thumbnail"])
    table["semantic_duplicate_of"] = semantic.duplicate_of(table, passes, config, stored["embedding"])
    return table, peak


def write_tables(table: "pd.DataFrame", config: CurateConfig, folder: Path) -> None:
    """``scores.parquet`` and one manifest per stage, with the rows' buckets and weights there."""
    table.to_parquet(folder / "scores.parquet", index=False)
    for name, limits in thresholds(config).items():
        rows = table[table[f"reason_{name}"].isna()].drop(columns=[f"reason_{other}" for other in STAGES])
        rows.assign(**bucket_columns(rows, limits)).to_parquet(folder / f"{name}.parquet", index=False)


def first_rejections(table: "pd.DataFrame") -> np.ndarray:
    """Per row the reason of the first stage that rejected it, None for rows that no stage rejected."""
    first = np.full(len(table), None, dtype=object)
    for name in STAGES:
        reason = table[f"reason_{name}"].to_numpy(dtype=object)
        new = kept(first) & ~np.isin(reason.astype(str), ("None", "nan", HELDOUT, NOT_ADMITTED))
        first[new] = reason[new]
    return first


def flat_metrics(table: "pd.DataFrame", funnel: dict[str, Any]) -> dict[str, float]:
    """Flat figures: in and kept per stage, rejected rows per reason, and precision and recall where the truth is known."""
    metrics: dict[str, float] = {}
    for name, stage in funnel.items():
        metrics |= {f"curate/{name}/in": stage["in"], f"curate/{name}/kept": stage["kept"]}
    names, counts = np.unique([reason for reason in first_rejections(table) if reason], return_counts=True)
    metrics |= {f"curate/reject/{name}": int(count) for name, count in zip(names, counts, strict=True)}
    return metrics | truth.figures(table, first_rejections(table))
