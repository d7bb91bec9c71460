"""The whole configuration of the line: one dataclass per component, defaults beside their code. Torch-free."""

from dataclasses import dataclass, field
from pathlib import Path

from qi2.data.accepted_config import AcceptedConfig
from qi2.data.config import DataConfig
from qi2.data.curate_config import CurateConfig
from qi2.data.datasets_config import DatasetsConfig
from qi2.distill.config import DistillConfig
from qi2.enhancer.config import EnhancerConfig
from qi2.evaluation.config import EvaluateConfig
from qi2.flywheel.config import FlywheelConfig
from qi2.mmdit.config import PhaseConfig
from qi2.models.config import MMDiTConfig, SamplerConfig
from qi2.rewards.config import RewardsConfig
from qi2.rlhf.config import RLHFConfig
from qi2.standins.config import StandinsConfig
from qi2.training.config import EncodeConfig, EngineConfig
from qi2.vae.config import VAEConfig


@dataclass
class Recipe:
    """What ``conf/`` may set. A scale is a set of differences; code never asks which scale it runs at."""

    scale: str = "small"
    seed: int = 0
    threads: int = 0  # CPU threads of one operation; 0: as many as cores. Small models train faster with one
    side_by_side: bool = False  # two stages that do not need each other run at the same time; for machines on which one leaves half idle
    engine: EngineConfig = field(default_factory=EngineConfig)
    data: DataConfig = field(default_factory=DataConfig)
    standins: StandinsConfig = field(default_factory=StandinsConfig)
    curate: CurateConfig = field(default_factory=CurateConfig)
    datasets: DatasetsConfig = field(default_factory=DatasetsConfig)
    vae: VAEConfig = field(default_factory=VAEConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    accepted: AcceptedConfig = field(default_factory=AcceptedConfig)
    mmdit: MMDiTConfig = field(default_factory=MMDiTConfig)
    pretrain: PhaseConfig = field(default_factory=PhaseConfig)
    continual: PhaseConfig = field(default_factory=PhaseConfig)
    sft: PhaseConfig = field(default_factory=PhaseConfig)
    rewards: RewardsConfig = field(default_factory=RewardsConfig)
    rlhf: RLHFConfig = field(default_factory=RLHFConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    enhancer: EnhancerConfig = field(default_factory=EnhancerConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    flywheel: FlywheelConfig = field(default_factory=FlywheelConfig)


def scale_layers(conf: Path, scale: str) -> list[Path]:
    """The files under ``conf`` whose values make up a scale: ``base.yaml`` where it exists, ``scale/SCALE.yaml``, and what rounds of the flywheel changed."""
    base, rounds = conf / "base.yaml", flywheel_layer(conf, scale)
    return [*([base] if base.exists() else []), conf / "scale" / f"{scale}.yaml", *([rounds] if rounds.exists() else [])]


def flywheel_layer(conf: Path, scale: str) -> Path:
    """Where rounds of the data flywheel leave their changes of a scale."""
    return conf / "flywheel" / f"{scale}.yaml"
