"""Train one phase of the MMDiT and publish the model."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from qi2.core import rng
from qi2.core.publish import publish
from qi2.core.reporter import FileReporter, Reporter, Reporters
from qi2.mmdit.config import PhaseConfig
from qi2.mmdit.module import MMDiTModule
from qi2.models.config import MMDiTConfig
from qi2.models.mmdit import MMDiT
from qi2.training.encoded import EncodedSet
from qi2.training.fit import fit

if TYPE_CHECKING:
    from qi2.recipe import Recipe


@dataclass
class PhaseInputs:
    """Folders that a phase reads: the encoded samples, the model to start from (none: random), and where checkpoints go."""

    encoded: Path
    start: Path | None = None
    checkpoints: Path | None = None


def start_model(config: MMDiTConfig, start: Path | None, seed: int) -> MMDiT:
    """The previous phase's model, or a new one drawn from the seed."""
    if start is not None:
        return MMDiT.load(start)
    torch.manual_seed(rng.key(seed, "mmdit/init"))
    return MMDiT(config)


def train_phase(cfg: "Recipe", name: str, inputs: PhaseInputs, out: Path, reporter: Reporter) -> dict[str, float]:
    """Train ``name`` (pretrain, continual or sft) and write model.safetensors, config.json, metrics.json and curves.csv to ``out``."""
    phase: PhaseConfig = getattr(cfg, name)
    data = EncodedSet(inputs.encoded)
    architecture = replace(cfg.mmdit, context_width=data.prompts[0].text.shape[1])
    module = MMDiTModule(start_model(architecture, inputs.start, cfg.seed), data, phase, name, cfg.seed)
    with publish(out) as staging:
        reporters = Reporters(reporter, FileReporter(staging))
        fit(module, name, reporters, clip=phase.optimizer.clip, checkpoints=inputs.checkpoints, ema=phase.ema)
        module.model.save(staging)
        metrics = {f"{name}/steps": float(module.total_steps), f"{name}/parameters": float(sum(p.numel() for p in module.model.parameters()))}
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics
