"""Parameters of the optimisers and of the encoded samples. Torch-free."""

from dataclasses import dataclass, field


@dataclass
class OptimizerConfig:
    """name: ``adam`` or ``muon``. Weight decay and clipping: report Table 2. Betas are ours (not in the report)."""

    name: str = "adam"
    lr: float = 1e-4
    adam_lr: float = 1e-3  # muon only: rate of the parameters that are not hidden matrices
    weight_decay: float = 1e-3  # of the hidden matrices; all other parameters do not decay
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    momentum: float = 0.95  # muon only
    warmup: int = 20
    decay_share: float = 0.4  # linear decay to ``floor`` over this last share of the steps
    floor: float = 0.05
    clip: float = 1.0


@dataclass
class EncodeConfig:
    """What is computed once and read by every later stage: latents per size and the prompts' hidden states."""

    sizes: list[int] = field(default_factory=lambda: [256, 512])
    edit_sizes: list[int] = field(default_factory=list)  # sizes at which any stage trains on edits; empty: all
    kinds: list[str] = field(default_factory=list)  # scene kinds to learn; empty: all
    captions: int = 2  # captions encoded per image
    cache: str = ""  # folder that keeps hidden states, so that new data costs only its own; worth it for a large condition encoder
