"""Parameters of the six training stages (report section 2.3, Figure 6) in their three phases (section 4.1, Table 2). Torch-free."""

from dataclasses import dataclass, field

from qi2.models.config import LoRAConfig
from qi2.training.config import AlignmentConfig, OptimizerConfig


@dataclass
class StageConfig:
    """One of the report's six stages: its number (which curated manifest it reads), sizes in pixels, and length."""

    stage: int = 1
    sizes: list[int] = field(default_factory=lambda: [256])
    batch_sizes: list[int] = field(default_factory=list)  # conditions per step at each size (Table 2: fewer at larger ones); empty: the phase's at all
    size_weights: list[float] = field(default_factory=list)  # relative share of the steps at each size; empty: equal (not in the report)
    steps: int = 1000
    ti2i_share: float = 0.1  # share of instruction-editing samples (Table 2: 0.1, then 0.3)
    t_mean: list[float] = field(default_factory=lambda: [0.0, 0.0])  # logit-normal mean, from start to end (not in the report)
    t_std: float = 1.0


@dataclass
class PhaseConfig:
    """Pre-training (stages 1-3), continual pre-training (4-5) or supervised fine-tuning (6)."""

    stages: list[StageConfig] = field(default_factory=list)  # none: the phase hands on what it starts from
    start: str = ""  # weights to start from instead of the phase before: our folder, or a transformer of diffusers (Qwen-Image-2.1)
    lora: LoRAConfig = field(default_factory=LoRAConfig)  # train adapters and merge them at the end; also kept as a file for diffusers
    batch_size: int = 32  # conditions per step, where a stage gives none per size
    mixed: bool = True  # T2I and TI2I in every batch; false: a batch is of one task, which is faster where a step is a few milliseconds (ours)
    dropout: float = 0.1  # unconditional dropout (Table 2)
    kind_weights: dict[str, float] = field(default_factory=dict)  # how often each kind is drawn, relative; 1 where absent
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    ema: float = 0.0  # decay per step of the weight average that the phase ends with; 0: its last weights (not in the report)
