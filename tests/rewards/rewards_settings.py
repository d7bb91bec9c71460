"""A tiny configuration of the reward models."""

from typing import Any

from qi2.rewards.config import DIMENSIONS, RewardsConfig
from qi2.training.config import OptimizerConfig


def small_config(**changes: Any) -> RewardsConfig:
    """Seconds of training at 64 px."""
    optimizer = OptimizerConfig("muon", lr=1e-2, adam_lr=2e-3, weight_decay=1e-2, warmup=3)
    config = RewardsConfig(heldout=24, size=64, width=32, layers=1, heads=2, tower="train", optimizer=optimizer)
    for name in DIMENSIONS:
        settings = getattr(config, name)
        settings.pairs, settings.steps, settings.batch_size = 32, 2, 8
    for name, value in changes.items():
        setattr(config, name, value)
    return config
