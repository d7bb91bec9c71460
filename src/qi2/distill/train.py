"""Distil the aligned model to a few steps and publish the student (report section 4.3)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.publish import publish
from qi2.core.reporter import FileReporter, Reporter, Reporters
from qi2.distill.module import DistillModule
from qi2.models.lora import adapter_of, merge, save_adapter
from qi2.models.mmdit import MMDiT
from qi2.training.fit import fit
from qi2.training.joined import open_set

if TYPE_CHECKING:
    from qi2.recipe import Recipe


@dataclass
class DistillInputs:
    """Folders that distillation reads: the encoded samples, the teacher, and where checkpoints go."""

    encoded: Path
    teacher: Path
    checkpoints: Path | None = None


def train_distill(cfg: "Recipe", inputs: DistillInputs, out: Path, reporter: Reporter) -> dict[str, float]:
    """Write model.safetensors, config.json, metrics.json and curves.csv of the student to ``out``; with LoRA also its adapter."""
    with publish(out) as staging:
        module = DistillModule(MMDiT.load(inputs.teacher), open_set(inputs.encoded), cfg.distill, cfg.sampler, cfg.seed)
        reporter.metrics({f"data/{what}": value for what, value in module.mixture.plan.figures(module.total_steps).items()}, 0)
        fit(module, "distill", Reporters(reporter, FileReporter(staging)), engine=cfg.engine, checkpoints=inputs.checkpoints, ema=cfg.distill.ema)
        if cfg.distill.lora.rank:
            save_adapter(adapter_of(module.model), staging / "lora", module.model.config.layers)
            merge(module.model)  # also changes teacher and fake score, which share the weights; neither is used any more
        module.model.save(staging)
        metrics = {"distill/steps": float(cfg.distill.steps), "distill/evaluations": float(cfg.sampler.few_steps)}
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics
