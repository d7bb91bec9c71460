"""Parameters of the stand-ins: where a pretrained model is, or how to train a small one. Torch-free."""

from dataclasses import dataclass, field

from qi2.standins.filters_config import AestheticConfig, ClipConfig, NSFWConfig, OrientationConfig


@dataclass
class VLMConfig:
    """Condition encoder. ``path`` is a Qwen3-VL folder or hub id; empty trains the tiny stand-in described below."""

    path: str = ""
    kinds: list[str] = field(default_factory=list)  # scene kinds to learn; empty: all
    sizes: list[int] = field(default_factory=lambda: [64])  # px of the pictures to learn from, multiples of 32
    vocabulary: int = 640
    width: int = 96
    layers: int = 3
    heads: int = 4
    vision_layers: int = 2
    fields: int = 5  # fields of the structured caption, predicted by as many tokens at the end of the prompt (training only)
    steps: int = 300
    caption_weight: float = 0.1  # of next-token prediction beside the fields; more of it delays them
    batch_size: int = 64
    lr: float = 3e-3
    muon_lr: float = 8e-3
    weight_decay: float = 0.5  # strong: without it a colour and a shape that were never seen together are read as their neighbours


@dataclass
class StandinsConfig:
    """Models that would come pretrained; the first three are trained small by the line where their path is empty, others left out."""

    threads: int = 0  # CPU threads of one operation in this stage, where it differs from the recipe's
    vlm: VLMConfig = field(default_factory=VLMConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    nsfw: NSFWConfig = field(default_factory=NSFWConfig)
    aesthetic: AestheticConfig = field(default_factory=AestheticConfig)
    orientation: OrientationConfig = field(default_factory=OrientationConfig)
