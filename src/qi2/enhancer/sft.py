"""SFT of the enhancer: next-token prediction on the answers of triplets, with TRL (report section 3.3)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from qi2.core.reporter import Reporter
from qi2.enhancer.config import EnhancerConfig
from qi2.enhancer.loop import Bridge, quiet, train
from qi2.enhancer.template import END, answer, question
from qi2.enhancer.triplets import Triplet
from qi2.training.config import OptimizerConfig
from qi2.training.optim import build_optimizer, lr_factor

POINTS = 50  # of each curve


def train_sft(
    model: Any, tokenizer: Any, triplets: Sequence[Triplet], config: EnhancerConfig, seed: int, reporter: Reporter, scratch: Path, folder: Path | None,
    facts: Mapping[str, Any],
) -> None:  # fmt: skip
    """Train ``model`` in place. ``scratch``: where TRL may write."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    quiet()
    sft, micro = config.sft, config.sft.micro or config.sft.batch_size
    rows = [{"prompt": question(tokenizer, config.instructions, t.task, t.short), "completion": answer(t.reasoning, t.fine, t.short) + END} for t in triplets]
    settings = SFTConfig(
        output_dir=str(scratch), max_steps=sft.steps, per_device_train_batch_size=micro, gradient_accumulation_steps=max(1, sft.batch_size // micro),
        max_grad_norm=sft.optimizer.clip, max_length=None,
        save_strategy="steps" if folder else "no", save_steps=sft.save_every, **shared(model, seed, max(1, sft.steps // POINTS)),
    )  # fmt: skip
    trainer = SFTTrainer(
        model, args=placed(settings, model.device), train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        optimizers=scheduled(model, sft.optimizer, sft.steps),
    )  # fmt: skip
    train(trainer, Bridge("enhancer-sft", reporter, folder, facts, sft.steps))


def scheduled(model: Any, config: OptimizerConfig, steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """The project's optimiser over a language model's weights, or over its adapters where it has any, and its schedule."""
    optimizer = build_optimizer(model, config, lambda name: "layers" in name)
    return optimizer, LambdaLR(optimizer, lambda step: lr_factor(step, steps, config))


def shared(model: Any, seed: int, every: int) -> dict[str, Any]:
    """Settings of both trainers: bf16 where the model's GPU has it, else the model's own precision; no trackers, no bars of TRL's own."""
    cpu = model.device.type == "cpu"
    bf16 = not cpu and torch.cuda.is_bf16_supported(including_emulation=False)
    return {
        "use_cpu": cpu, "bf16": bf16, "activation_checkpointing": not cpu, "seed": seed, "data_seed": seed, "logging_steps": every,
        "report_to": [], "disable_tqdm": True, "dataloader_pin_memory": not cpu, "save_only_model": False,
    }  # fmt: skip


def placed(settings: Any, device: torch.device) -> Any:
    """The settings for the model's own GPU alone: of themselves trainers take all that they see, or the first one."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
        settings._n_gpu, settings._setup_devices = 1, device
    return settings
