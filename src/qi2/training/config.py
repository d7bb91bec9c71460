"""Parameters of the training engine, the optimisers and the encoded samples. Torch-free."""

from dataclasses import dataclass, field


@dataclass
class OptimizerConfig:
    """name: ``adam`` or ``muon``. Weight decay and clipping: report Table 2. Betas and the spike rule are ours (not in the report)."""

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
    spike_sigma: float = 0.0  # skip an update whose gradient norm exceeds the recent mean by so many deviations; 0: never
    spike_window: int = 128  # updates that make up the recent mean and deviation


@dataclass
class AlignmentConfig:
    """Hidden states of the image model drawn towards the condition encoder's vision features of the clean picture (REPA, Yu et al., 2024; not in the report).

    What learns the way between the two is training's alone: it is no part of the model that is published.
    """

    weight: float = 0.0  # of the loss (1 - cosine) beside flow matching's; 0: off. REPA: 0.5
    block: int = 0  # after how many blocks; 0: half of them
    width: int = 0  # of the projector's two hidden layers; 0: four times the model's


@dataclass
class EngineConfig:
    """How training runs, not what it computes: with other values the same weights come out, up to rounding.

    Sharding is PyTorch's FSDP2. Several nodes are started by torchrun, Slurm or a Kubernetes job; see docs/scale.md.
    """

    devices: int = 1  # processes on this machine, one per GPU; 0: as many as there are GPUs
    nodes: int = 1
    strategy: str = "ddp"  # ddp: every process holds the whole model; fsdp: each a shard of weights, gradients, optimiser and average
    precision: str = "auto"  # 32, or bf16 with weights and optimiser in 32; auto: bf16 on a GPU that has it
    accumulate: int = 1  # micro-batches per step and process
    workers: int = 1  # processes that prepare batches, for the methods that decode or draw them
    dry_run: bool = True  # a step of the largest batch before the first, so that memory runs out at once or not at all
    checkpoint_seconds: float = 30.0  # between checkpoints; longer where saving would take more than ``checkpoint_share`` of the time
    checkpoint_share: float = 0.02
    checkpoint_steps: int = 0  # a checkpoint every so many steps instead
    keep: int = 2  # checkpoints
    bad_steps: int = 10  # non-finite gradients in a row that end the run
    curve_points: int = 60  # of every curve
    pictures: int = 4  # of fixed prompts over a run, for the methods that draw
    on_change: str = "refuse"  # checkpoints of other data or parameters: refuse, restart (delete them), or accept


@dataclass
class EncodeConfig:
    """What is computed once and read by every later stage: latents per size and the prompts' hidden states. ``online``: nothing of it is kept."""

    sizes: list[int] = field(default_factory=lambda: [256, 512])
    edit_sizes: list[int] = field(default_factory=list)  # sizes at which any stage trains on edits; empty: all
    kinds: list[str] = field(default_factory=list)  # scene kinds to learn; empty: all
    captions: int = 2  # captions encoded per image
    features: bool = False  # also the targets' vision features, which a phase with an `alignment` needs
    online: bool = False  # training encodes each batch itself, beside its steps: for data too large to store, read few times (docs/scale.md)
    device: str = "cpu"  # of the autoencoder and the condition encoder: cpu or cuda
    cache: str = ""  # folder that keeps hidden states, so that new data costs only its own; worth it for a large condition encoder
