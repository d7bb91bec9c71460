"""Align the SFT model and publish the result (report section 4.2)."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.errors import QI2Error
from qi2.core.publish import publish
from qi2.core.reporter import FileReporter, Reporter, Reporters
from qi2.models.condition import ConditionEncoder
from qi2.models.lora import adapter_of, merge, save_adapter, with_adapter
from qi2.models.mmdit import MMDiT
from qi2.models.vae import VAE
from qi2.rlhf.config import RLHFConfig, RolloutConfig
from qi2.rlhf.judge import Judge
from qi2.rlhf.module import RLHFModule
from qi2.rlhf.prompts import Prompt, PromptPool, encode, heldout_prompts, manifest_prompts, world_prompts
from qi2.rlhf.rollout import Sampler
from qi2.rlhf.scoring import Scorer, choose_scorers
from qi2.training.fit import fit
from qi2.training.joined import open_set
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
    """Write model.safetensors, config.json, metrics.json, curves.csv and, with a judge, judgements.json to ``out``; with LoRA also the adapter.

    scorers: one per reward that ``rlhf.rewards`` gives a weight, and the judge; the world's truth is built in. A judge hands on the best policy, not the last.
    """
    with publish(out) as staging:
        module = build(cfg, inputs, scorers)
        reporter.metrics({f"data/{what}": value for what, value in module.mixture.plan.figures(cfg.rlhf.steps * cfg.rlhf.updates).items()}, 0)
        reporters = Reporters(reporter, FileReporter(staging))
        fit(module, "rlhf", reporters, engine=cfg.engine, checkpoints=inputs.checkpoints, ema=cfg.rlhf.average)
        metrics = {"rlhf/steps": float(module.steps_done), **_ends(staging / "curves.csv")}
        if module.stop is not None:
            metrics["rlhf/best_step"] = float(module.stop.give(module.model))
            (staging / "judgements.json").write_text(json.dumps({"ended": module.ended, "judgements": module.history}, indent=1))
        if module.ended:
            reporters.text("ended.txt", f"rlhf ended after step {module.steps_done} of {module.total_steps}: {module.ended}\n")
        if cfg.rlhf.lora.rank or cfg.rlhf.lora.path:
            save_adapter(adapter_of(module.model), staging / "lora", module.model.config.layers)
            merge(module.model)
        module.model.save(staging)
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def build(cfg: "Recipe", inputs: RLHFInputs, scorers: Mapping[str, Scorer]) -> RLHFModule:
    """The module with everything it reads. Raises QI2Error where the judge is one of the rewards."""
    config, vae, encoder = cfg.rlhf, VAE.load(inputs.vae), ConditionEncoder.load(inputs.vlm)
    check(inputs.encoded, vae, encoder)
    pool, wanted = prompt_pool(config, inputs, cfg.seed), config.judge
    if wanted.every and config.rewards.get(wanted.scorer, 0) > 0:
        raise QI2Error(
            f"rlhf.judge.scorer {wanted.scorer!r} is one of the rewards, so it cannot tell when they are cheated; name another, or set its weight to 0"
        )
    asked: list[Prompt] = []
    if wanted.every:
        from_world = config.prompts.source == "world"
        asked = heldout_prompts(config.prompts, config.size, cfg.seed, wanted.prompts) if from_world else pool.hold_out(wanted.prompts)
    empty = encode([*pool.prompts, *asked], encoder, vae)

    def sampler(rollout: RolloutConfig, more: Mapping[str, float]) -> Sampler:
        return Sampler(rollout, config.size, cfg.sampler, vae, empty, choose_scorers({**config.rewards, **more}, scorers))

    steps = wanted.steps or cfg.sampler.schedule().steps
    drawn = replace(config.rollout, group=wanted.group, steps=steps, guidance=cfg.sampler.guidance, edit_guidance=cfg.sampler.edit_guidance)
    judge = Judge(sampler(drawn, {wanted.scorer: 1.0}), asked, wanted.scorer, cfg.seed) if asked else None
    model = with_adapter(MMDiT.load(inputs.start), config.lora)
    return RLHFModule(model, open_set(inputs.encoded), pool, sampler(config.rollout, {}), config, cfg.seed, judge)


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
