"""Train one phase of the MMDiT and publish the model."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.core.publish import publish
from qi2.core.reporter import FileReporter, Reporter, Reporters
from qi2.mmdit.config import PhaseConfig
from qi2.mmdit.module import MMDiTModule
from qi2.mmdit.preview import Preview
from qi2.models.config import MMDiTConfig
from qi2.models.lora import adapter_of, merge, save_adapter, with_adapter
from qi2.models.mmdit import MMDiT
from qi2.models.mmdit_diffusers import load_mmdit
from qi2.models.vae import VAE
from qi2.training.encoded import EncodedSet
from qi2.training.fit import fit
from qi2.training.joined import open_set, training_set

if TYPE_CHECKING:
    from qi2.recipe import Recipe


@dataclass
class PhaseInputs:
    """Folders that a phase reads: the encoded samples, the model to start from (none: random), the VAE to look through, where checkpoints go, and
    samples that the data flywheel has added (stage `accepted`)."""

    encoded: Path
    start: Path | None = None
    checkpoints: Path | None = None
    vae: Path | None = None
    accepted: Path | None = None


def start_model(config: MMDiTConfig, start: Path | None, seed: int) -> MMDiT:
    """A trained model in fp32, of our folder or of diffusers', or a new one drawn from the seed.

    Raises QI2Error where the trained one reads another condition encoder's hidden states.
    """
    if start is None:
        torch.manual_seed(rng.key(seed, "mmdit/init"))
        return MMDiT(config)
    model = load_mmdit(start).float()
    if model.config.context_width != config.context_width:
        raise QI2Error(
            f"{start} reads hidden states of width {model.config.context_width}, but the samples were encoded with width {config.context_width}; "
            "give its own condition encoder in standins.vlm.path"
        )
    return model.run_like(config)


def preview(cfg: "Recipe", phase: PhaseConfig, data: EncodedSet, vae: Path | None) -> Preview | None:
    """Pictures of fixed prompts of the phase's last stage, at its largest size; none without a VAE to decode them."""
    if vae is None or not phase.stages or not cfg.engine.pictures:
        return None
    return Preview(VAE.load(vae), data, phase.stages[-1].stage, max(phase.stages[-1].sizes), cfg.sampler, cfg.seed)


def train_phase(cfg: "Recipe", name: str, inputs: PhaseInputs, out: Path, reporter: Reporter) -> dict[str, float]:
    """Train ``name`` (pretrain, continual or sft) and write model.safetensors, config.json, metrics.json and curves.csv to ``out``."""
    phase: PhaseConfig = getattr(cfg, name)
    aligned = phase.alignment.weight > 0
    data = training_set(inputs.encoded, inputs.accepted, cfg.accepted.repeat, aligned) if inputs.accepted else open_set(inputs.encoded, aligned)
    architecture = replace(cfg.mmdit, context_width=data.prompts[0].text.shape[1])
    model = start_model(architecture, Path(phase.start) if phase.start else inputs.start, cfg.seed)
    module = MMDiTModule(with_adapter(model, phase.lora), data, phase, name, cfg.seed, preview(cfg, phase, data, inputs.vae))
    reporter.metrics(module.data_figures(), 0)
    with publish(out) as staging:
        reporters = Reporters(reporter, FileReporter(staging))
        fit(module, name, reporters, engine=cfg.engine, checkpoints=inputs.checkpoints, ema=phase.ema)
        if phase.lora.rank or phase.lora.path:
            save_adapter(adapter_of(module.model), staging / "lora", module.model.config.layers)
            merge(module.model)
        module.model.save(staging)
        metrics = {f"{name}/steps": float(module.total_steps), f"{name}/parameters": float(sum(p.numel() for p in module.model.parameters()))}
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics
