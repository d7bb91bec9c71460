"""Parameters of RLHF (report section 4.2). Torch-free.

The report fixes the five rewards, guidance in the rollout, the conditional branch alone in the objective, and that prompt distribution
and reward weights move during training. It gives no numbers and names no objective: these defaults are ours, measured at `tiny`.
"""

from dataclasses import dataclass, field

from qi2.training.config import OptimizerConfig

OBJECTIVES = ("nft", "grpo", "supervised")


@dataclass
class PromptsConfig:
    """What is asked for; nothing held out occurs. ``source``: ``manifest`` takes the curated rows of stage ``rlhf.stage``, ``world``
    draws new random training scenes."""

    source: str = "manifest"
    pool: int = 2000  # prompts, encoded once at the start
    kinds: dict[str, float] = field(  # relative weights
        default_factory=lambda: {"one": 0.5, "two": 0.5, "count": 2.0, "relation": 2.0, "text": 2.0}
    )
    edit_share: float = 0.0  # of the prompts are TI2I
    edit_kinds: dict[str, float] = field(default_factory=lambda: {"recolor": 1.0, "move": 1.0, "add": 1.0, "remove": 1.0, "background": 1.0, "word": 1.0})
    floor: float = 0.2  # kinds are redrawn in proportion to how far their groups' advantages spread, never below this factor


@dataclass
class RolloutConfig:
    """How images are sampled for scoring."""

    prompts: int = 12  # groups per step
    group: int = 8  # samples per prompt
    steps: int = 6
    guidance: float = 2.0  # report: on
    edit_guidance: float = 1.0
    sde_steps: int = 3  # grpo: the first steps are stochastic and trained
    noise_level: float = 0.7  # grpo: of the stochastic steps


@dataclass
class RLHFConfig:
    """``steps`` rollouts, each with ``updates`` optimiser updates."""

    objective: str = "nft"  # nft: forward process; grpo: ratio; supervised: the control, no rollouts
    threads: int = 0  # CPU threads of one operation in this stage, where it differs from the recipe's
    steps: int = 1000
    size: int = 256  # px
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    rewards: dict[str, float] = field(
        default_factory=lambda: {
            "aesthetic": 1.0, "alignment": 1.0, "portrait": 1.0, "instruction": 1.0, "consistency": 1.0, "checker": 0.0,
        }  # checker: the world's exact truth
    )  # fmt: skip
    reward_floor: float = 0.2  # a reward's weight shrinks with its spread inside groups, against its widest so far, never below this factor
    scale: str = "batch"  # unit of advantages: spread of the whole batch, or of each group
    limit: float = 2.0  # advantages are clipped to +-limit
    updates: int = 2  # per rollout
    beta: float = 1.0  # nft: distance of the implicit policies
    t_range: list[float] = field(default_factory=lambda: [0.3, 1.0])  # nft: uniform times
    clip_range: float = 0.01  # grpo
    old_decay: float = 0.0  # the rollout policy is an average of the trained one; 0 follows it at once
    supervised: float = 0.3  # weight of ordinary flow matching on real samples
    real_batch: int = 32  # real samples per update
    stage: int = 6  # manifest of the real samples
    ti2i_share: float = 0.3
    dropout: float = 0.1
    t_mean: float = 0.5  # real samples: logit-normal times
    t_std: float = 1.2
    ema: float = 0.9  # of the spreads that move prompts and weights
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-5, warmup=5))
