"""Align the SFT model and publish the result (report section 4.2)."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.errors import QI2Error
from qi2.core.publish import publish
from qi2.core.reporter import FileReporter, Reporter, Reporters
from qi2.models.condition import ConditionEncoder
from qi2.models.mmdit import MMDiT
from qi2.models.vae import VAE
from qi2.rlhf.config import RLHFConfig
from qi2.rlhf.module import RLHFModule
from qi2.rlhf.prompts import PromptPool, encode, manifest_prompts, world_prompts
from qi2.rlhf.rollout import Sampler
from qi2.rlhf.scoring import Scorer, choose_scorers
from qi2.training.encoded import EncodedSet
from qi2.training.fit import fit
from qi2.training.versions import check

if TYPE_CHECKING:
    from qi2.recipe import Recipe


@dataclass
class RLHFInputs:
    """Folders that RLHF reads: the encoded samples, the model to start from, VAE, condition encoder, and where checkpoints go.

    raw and curated are needed where prompts come from a manifest.
    """

    encoded: Path
    start: Path
    vae: Path
    vlm: Path
    checkpoints: Path | None = None
    raw: Path | None = None
    curated: Path | None = None


def train_rlhf(cfg: "Recipe", inputs: RLHFInputs, scorers: Mapping[str, Scorer], out: Path, reporter: Reporter) -> dict[str, float]:
    """Write model.safetensors, config.json, metrics.json and curves.csv to ``out``.

    scorers: one per reward that ``rlhf.rewards`` gives a weight; the world's checker is built in.
    """
    with publish(out) as staging:
        module = build(cfg, inputs, scorers)
        reporter.metrics({f"data/{what}": value for what, value in module.mixture.plan.figures(cfg.rlhf.steps * cfg.rlhf.updates).items()}, 0)
        reporters = Reporters(reporter, FileReporter(staging))
        fit(module, "rlhf", reporters, engine=cfg.engine, checkpoints=inputs.checkpoints)
        module.model.save(staging)
        metrics = {"rlhf/steps": float(module.total_steps), **_ends(staging / "curves.csv")}
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def build(cfg: "Recipe", inputs: RLHFInputs, scorers: Mapping[str, Scorer]) -> RLHFModule:
    """The module with everything it reads."""
    config, vae, encoder = cfg.rlhf, VAE.load(inputs.vae), ConditionEncoder.load(inputs.vlm)
    check(inputs.encoded, vae, encoder)
    pool = prompt_pool(config, inputs, cfg.seed)
    empty = encode(pool.prompts, encoder, vae)
    sampler = Sampler(config.rollout, config.size, cfg.sampler, vae, empty, choose_scorers(config.rewards, scorers))
    return RLHFModule(MMDiT.load(inputs.start), EncodedSet(inputs.encoded), pool, sampler, config, cfg.seed)


def prompt_pool(config: RLHFConfig, inputs: RLHFInputs, seed: int) -> PromptPool:
    """The prompts of the configured source. Raises QI2Error where it is unknown or its folders were not given."""
    if config.prompts.source == "world":
        return world_prompts(config.prompts, config.size, seed)
    if config.prompts.source != "manifest":
        raise QI2Error(f"rlhf.prompts.source {config.prompts.source!r} is not known; choose manifest or world")
    if inputs.raw is None or inputs.curated is None:
        raise QI2Error("rlhf.prompts.source manifest needs the folders raw and curated; give both, or choose world")
    return manifest_prompts(config.prompts, inputs.raw, inputs.curated / f"stage{config.stage}.parquet", config.size, seed)


def _ends(curves: Path) -> dict[str, float]:
    """First and last value of every curve, as ``NAME/first`` and ``NAME/last``."""
    if not curves.exists():
        return {}
    ends: dict[str, float] = {}
    with open(curves, newline="") as handle:
        for row in csv.DictReader(handle):
            ends.setdefault(f"{row['name']}/first", float(row["value"]))
            ends[f"{row['name']}/last"] = float(row["value"])
    return ends
