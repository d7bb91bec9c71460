"""Stage `rewards`: train five reward models on preference pairs, calibrate them to one scale, and publish them (report section 4.2)."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from qi2.core import rng
from qi2.core.publish import publish
from qi2.core.reporter import FileReporter, Reporter, Reporters
from qi2.models.condition import ConditionEncoder
from qi2.models.vae import VAE
from qi2.objectives.preference import standardisation
from qi2.rewards.config import DIMENSIONS, NEEDS, RewardArchitecture, RewardsConfig
from qi2.rewards.data import PairPool, PromptReader, read_pool, through_vae
from qi2.rewards.heads import RewardModel
from qi2.rewards.images import image_pairs
from qi2.rewards.measure import figures, score_pool
from qi2.rewards.module import RewardModule
from qi2.rewards.pairs import PairSet, world_pairs
from qi2.rewards.sheet import Strip, pair_sheet
from qi2.rewards.table import TableRow, read_table, table_pairs
from qi2.training.config import EngineConfig
from qi2.training.fit import fit

if TYPE_CHECKING:
    from qi2.recipe import Recipe

SHEET = "pairs.png"
REFERENCE_PAIRS = 512  # training pairs over which a reward's scale is measured


@dataclass
class RewardInputs:
    """Folders that the stage reads. The VAE is optional; raw and curated matter where the data are the user's own images."""

    raw: Path
    curated: Path
    vlm: Path
    vae: Path | None = None
    checkpoints: Path | None = None

    def kept(self, name: str) -> Path | None:
        """Where the checkpoints of one reward go."""
        return None if self.checkpoints is None else self.checkpoints / name


@dataclass
class _Stage:
    """What training one reward after the other shares."""

    config: RewardsConfig
    seed: int
    inputs: RewardInputs
    engine: EngineConfig
    encoder: ConditionEncoder
    vae: VAE | None
    table: list[TableRow]
    reader: PromptReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = PromptReader(self.encoder)


def train_rewards(
    cfg: "Recipe", raw: Path, curated: Path, standins: Path, out: Path, reporter: Reporter, checkpoints: Path | None = None, vae: Path | None = None
) -> dict[str, float]:
    """Write one folder per reward, metrics.json, curves.csv and pairs.png to ``out``; returns the metrics.

    With ``vae``, part of the training pictures passes through it, as generated pictures do. A killed run continues from
    ``checkpoints``.
    """
    inputs = RewardInputs(raw, curated, standins / "vlm", vae, checkpoints)
    table = read_table(Path(cfg.rewards.pairs)) if cfg.rewards.pairs else []
    stage = _Stage(cfg.rewards, cfg.seed, inputs, cfg.engine, ConditionEncoder.load(inputs.vlm), VAE.load(vae) if vae else None, table)
    metrics: dict[str, float] = {}
    strips = []
    with publish(out) as staging:
        reporters = Reporters(reporter, FileReporter(staging))
        for name in DIMENSIONS:
            found, strip = train_reward(stage, name, staging / name, reporters)
            metrics |= found
            strips.append(strip)
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
        sheet = pair_sheet(strips)
        sheet.save(staging / SHEET)
        reporter.image("reward/pairs", sheet, 0)
    reporter.metrics(metrics, 0)
    return metrics


def train_reward(stage: _Stage, name: str, out: Path, reporter: Reporter) -> tuple[dict[str, float], Strip]:
    """Train, calibrate and save one reward; returns its metrics and what the sheet shows of it."""
    pairs, unseen = choose_pairs(stage, name)
    held = read_pool(unseen, NEEDS[name], stage.reader, f"{name}: held-out pairs")
    model = _trained(stage, name, pairs, reporter)
    scores = score_pool(model, held)
    metrics = figures(name, scores)
    if stage.vae is not None:
        decoded = through_vae(held, stage.vae, 1.0, 0.0, stage.seed, f"{name}: held-out pairs through the VAE")
        metrics[f"reward/{name}/accuracy_decoded"] = figures(name, score_pool(model, decoded))[f"reward/{name}/accuracy"]
    metrics |= {f"reward/{name}/mean": model.config.mean, f"reward/{name}/std": model.config.std}
    metrics[f"reward/{name}/annotated"] = float(pairs.origin == "annotated")
    model.save(out)
    shown = type(scores)(model.calibrated(scores.better), model.calibrated(scores.worse))
    return metrics, Strip(name, metrics[f"reward/{name}/accuracy"], held, shown)


def choose_pairs(stage: _Stage, name: str) -> tuple[PairSet, PairSet]:
    """(training pairs, held-out pairs): annotated ones, else of the user's own images, else of the world."""
    config, seed = stage.config, stage.seed
    annotated = table_pairs(stage.table, name, Path(config.pairs).parent, config.heldout_share, config.size, seed)
    found = annotated or image_pairs(name, stage.inputs.raw, stage.inputs.curated, config, seed)
    if found:
        return found
    train = world_pairs(name, "train", getattr(config, name).pairs, config.size, seed)
    return train, world_pairs(name, "heldout", config.heldout, config.size, seed)


def _trained(stage: _Stage, name: str, pairs: PairSet, reporter: Reporter) -> RewardModel:
    """The calibrated model; where an earlier run got so far, it is not trained again."""
    config, kept = stage.config, stage.inputs.kept(name)
    visual, width = stage.encoder.model.model.visual, stage.encoder.width
    pool = read_pool(pairs, NEEDS[name], stage.reader, f"{name}: pairs")
    if stage.vae is not None:
        pool = through_vae(pool, stage.vae, config.decoded, config.latent_noise, stage.seed, f"{name}: pairs through the VAE")
    torch.manual_seed(rng.key(stage.seed, f"rewards/{name}/init"))
    architecture = RewardArchitecture(name, config.size, config.width, config.layers, config.heads, config.tower)
    module = RewardModule(RewardModel(architecture, visual, width), pool, config, stage.seed)
    fit(module, f"reward {name}", reporter, engine=stage.engine, checkpoints=kept)
    _calibrate(module.model, pool)
    return module.model.eval()


def _calibrate(model: RewardModel, pool: PairPool) -> None:
    """Put the mean and deviation of the scores of a reference set of training pictures into the model's config."""
    part = PairPool(
        pool.pictures[:REFERENCE_PAIRS],
        None if pool.sources is None else pool.sources[:REFERENCE_PAIRS],
        None if pool.prompts is None else pool.prompts[:REFERENCE_PAIRS],
        pool.texts[:REFERENCE_PAIRS],
    )
    scores = score_pool(model, part)
    model.config.mean, model.config.std = standardisation(torch.cat([scores.better, scores.worse]))
