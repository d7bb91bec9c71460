"""Stage `rewards`: train five reward models on judgements, calibrate them to one scale, and publish them (report section 4.2)."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from qi2.core import rng
from qi2.core.lanes import cores, side_by_side
from qi2.core.publish import publish
from qi2.core.reporter import FileReporter, Reporter, Reporters
from qi2.models.condition import ConditionEncoder
from qi2.models.storage import device_of
from qi2.models.vae import VAE
from qi2.rewards.config import DIMENSIONS, JUDGED, NEEDS, RewardArchitecture, RewardsConfig
from qi2.rewards.data import PromptReader, read_pool, through_vae
from qi2.rewards.formats import TableRow
from qi2.rewards.heads import RewardModel
from qi2.rewards.images import image_pairs
from qi2.rewards.measure import calibrate, compare, figures, judged_rows, score_pool, write_judged
from qi2.rewards.module import RewardModule
from qi2.rewards.pairs import Judgements, WorldPairs
from qi2.rewards.sheet import Strip, pair_sheet
from qi2.rewards.table import read_table, table_judgements
from qi2.training.config import EngineConfig
from qi2.training.fit import fit

if TYPE_CHECKING:
    from qi2.recipe import Recipe

SHEET = "pairs.png"
CURVES = ".curves"  # in the staging folder: every reward's own, until they are joined
TOGETHER = (("aesthetic",), ("alignment",), ("portrait",), ("instruction", "consistency"))


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
class RewardStage:
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
    """Write one folder per reward (with its held-out pairs), metrics.json, curves.csv and pairs.png to ``out``; returns the metrics.

    With ``vae``, part of the training pictures passes through it, as generated pictures do. A killed run continues from
    ``checkpoints``. With ``rewards.parallel`` several processes train; the bytes are those of one.
    """
    inputs = RewardInputs(raw, curated, standins / "vlm", vae, checkpoints)
    threads = torch.get_num_threads()
    with publish(out) as staging:
        works = [partial(train_some, names, cfg.rewards, cfg.seed, inputs, cfg.engine, staging, threads) for names in divided(cfg.rewards, threads)]
        done = side_by_side(works, reporter) if len(works) > 1 else [works[0](reporter)]
        found = {name: one for part in done for name, one in part.items()}
        metrics = {key: value for name in DIMENSIONS for key, value in found[name][0].items()}
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
        _join_curves(staging)
        sheet = pair_sheet([found[name][1] for name in DIMENSIONS])
        sheet.save(staging / SHEET)
        reporter.image("reward/pairs", sheet, 0)
    reporter.metrics(metrics, 0)
    return metrics


def divided(config: RewardsConfig, threads: int) -> list[tuple[str, ...]]:
    """The rewards that each of the ``config.parallel`` processes trains, about equally long, in the order of DIMENSIONS; no more processes than cores.

    Those that judge edits stay together: they meet the same edits, whose prompts are then read once.
    """
    room = cores() // (1 if config.device.startswith("cuda") else max(threads, 1))
    bins: list[list[str]] = [[] for _ in range(max(1, min(config.parallel or len(TOGETHER), len(TOGETHER), room)))]

    def length(names: Sequence[str]) -> int:
        return sum(getattr(config, name).steps * getattr(config, name).batch_size for name in names)

    for names in sorted(TOGETHER, key=length, reverse=True):
        min(bins, key=length).extend(names)
    return [tuple(name for name in DIMENSIONS if name in names) for names in bins]


def train_some(
    names: Sequence[str], config: RewardsConfig, seed: int, inputs: RewardInputs, engine: EngineConfig, staging: Path, threads: int, reporter: Reporter
) -> dict[str, tuple[dict[str, float], Strip]]:
    """Some rewards one after the other, each into its folder in ``staging``: the work of one process. Threads decide the last bits of a sum."""
    torch.set_num_threads(threads)
    table = read_table(config) if config.pairs else []
    encoder, vae = ConditionEncoder.load(inputs.vlm, config.device), VAE.load(inputs.vae) if inputs.vae else None
    stage = RewardStage(config, seed, inputs, engine, encoder, vae, table)
    return {name: train_reward(stage, name, staging / name, Reporters(reporter, FileReporter(staging / CURVES / name))) for name in names}


def _join_curves(staging: Path) -> None:
    """One ``curves.csv`` of all rewards in their order, whichever process wrote them."""
    written = [staging / CURVES / name / "curves.csv" for name in DIMENSIONS]
    parts = [path.read_bytes().splitlines(keepends=True) for path in written if path.exists()]
    if parts:
        (staging / "curves.csv").write_bytes(b"".join([parts[0][0], *(line for part in parts for line in part[1:])]))
    shutil.rmtree(staging / CURVES)


def train_reward(stage: RewardStage, name: str, out: Path, reporter: Reporter) -> tuple[dict[str, float], Strip]:
    """Train, calibrate and save one reward; returns its metrics and what the sheet shows of it."""
    judgements, unseen = choose_judgements(stage, name)
    reference, held = read_pool(unseen, NEEDS[name], stage.reader, f"{name}: held-out pairs").divide(stage.config.calibration, stage.seed)
    model = _trained(stage, name, judgements, reporter)
    calibrate(model, reference)
    scores = score_pool(model, held)
    pairs = compare(scores, held)
    metrics = figures(model, pairs)
    if stage.vae is not None:
        decoded = through_vae(held, stage.vae, 1.0, 0.0, stage.seed, f"{name}: held-out pairs through the VAE")
        metrics[f"reward/{name}/accuracy_decoded"] = figures(model, compare(score_pool(model, decoded), held))[f"reward/{name}/accuracy"]
    metrics |= {f"reward/{name}/{key}": getattr(model.config, key) for key in ("mean", "temperature", "sharpness", "tie", "mistakes")}
    metrics[f"reward/{name}/annotated"] = float(judgements.origin == "annotated")
    model.save(out)
    write_judged(out / JUDGED, judged_rows(model, pairs))
    return metrics, Strip.of(name, metrics[f"reward/{name}/accuracy"], held, model.calibrated(scores.mean))


def choose_judgements(stage: RewardStage, name: str) -> tuple[Judgements, Judgements]:
    """(to train on, held out): annotated ones, else of the user's own images, else of the world."""
    config, seed = stage.config, stage.seed
    annotated = table_judgements(stage.table, name, config, seed)
    found = annotated or image_pairs(name, stage.inputs.raw, stage.inputs.curated, config, seed)
    if found:
        return found
    train, held = (WorldPairs(name, split, config.size, seed, config.label_noise, config.equal) for split in ("train", "heldout"))
    return train.pairs(getattr(config, name).pairs), held.pairs(config.heldout)


def _trained(stage: RewardStage, name: str, judgements: Judgements, reporter: Reporter) -> RewardModel:
    """The model, not yet calibrated; where an earlier run got so far, it is not trained again."""
    config, kept = stage.config, stage.inputs.kept(name)
    visual, width = stage.encoder.model.model.visual, stage.encoder.width
    pool = read_pool(judgements, NEEDS[name], stage.reader, f"{name}: pairs")
    if stage.vae is not None:
        pool = through_vae(pool, stage.vae, config.decoded, config.latent_noise, stage.seed, f"{name}: pairs through the VAE")
    torch.manual_seed(rng.key(stage.seed, f"rewards/{name}/init"))
    shared = {key: getattr(config, key) for key in ("size", "width", "layers", "heads", "tower", "lora", "ties", "uncertain")}
    architecture = RewardArchitecture(name, **shared)
    module = RewardModule(RewardModel(architecture, visual, width, config.tie), pool, config, stage.seed)
    fit(module, f"reward {name}", reporter, engine=stage.engine, checkpoints=kept)
    return module.model.eval().to(device_of(config.device))
