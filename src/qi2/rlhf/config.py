"""Parameters of RLHF (report section 4.2). Torch-free.

The report fixes the five rewards, guidance in the rollout, the conditional branch alone in the objective, and that prompt distribution
and reward weights move during training. It gives no numbers and names no objective: these defaults are ours, measured at `tiny`.
"""

from dataclasses import dataclass, field

from qi2.models.config import LoRAConfig
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
    batch: int = 0  # prompts that are sampled, and learnt from, at once, as memory allows; 0: all
    steps: int = 6
    guidance: float = 2.0  # report: on
    edit_guidance: float = 1.0
    sde_steps: int = 2  # grpo: so many steps in a row are stochastic and trained, from a start drawn for every rollout (MixGRPO, Flow-GRPO-Fast)
    sde_range: list[int] = field(default_factory=lambda: [0, 4])  # grpo: steps among which they lie; never the last
    noise_level: float = 0.7  # grpo: of the stochastic steps


@dataclass
class JudgeConfig:
    """Guards against over-optimisation. Every ``every`` steps the same held-out prompts are drawn with the same noise, with the guidance of
    ``sampler`` and not the rollout's, and scored by the rewards and by a judge that is not one of them; the best policy by the judge is handed on."""

    scorer: str = "exact"  # all of the world's truth; on own data the name of any scorer without a weight in ``rewards``
    every: int = 0  # steps; 0: no judge, no budgets, fixed reward weights, and the last policy is handed on
    prompts: int = 60
    group: int = 4  # samples per prompt
    steps: int = 0  # of the sampler; 0: as many as ``sampler`` has in use
    fall: float = 3.0  # the run ends where the judge is so many standard errors below its best (paired over prompts); 0: never
    diversity: float = 0.5  # ... or where samples of a prompt are less than this share as far apart as at the start; 0: never
    kl: float = 0.0  # ... or where the policy is further than this from its start, mean squared difference of velocities; 0: never


@dataclass
class RLHFConfig:
    """``steps`` rollouts, each with ``updates`` optimiser updates."""

    objective: str = "nft"  # nft: forward process; grpo: ratio; supervised: the control, no rollouts
    threads: int = 0  # CPU threads of one operation in this stage, where it differs from the recipe's
    steps: int = 1000
    size: int = 256  # px
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    rewards: dict[str, float] = field(
        default_factory=lambda: {
            "aesthetic": 1.0, "alignment": 1.0, "portrait": 1.0, "instruction": 1.0, "consistency": 1.0, "checker": 0.0,
        }  # checker: the world's truth, with marks for parts of it
    )  # fmt: skip
    reward_floor: float = 0.2  # a reward's weight shrinks with its spread inside groups, against its widest so far, never below this factor
    reward_rate: float = 0.5  # how fast weights move towards rewards that have fallen below their best: see `qi2.rlhf.balance`; 0: not
    reward_limit: float = 4.0  # the most that moves a weight up or down, as a factor
    scale: str = "group"  # unit in which each reward is normalised: the spread of its group (GDPO), or of the whole batch
    limit: float = 2.0  # advantages are clipped to +-limit
    updates: int = 2  # per rollout
    beta: float = 1.0  # nft: distance of the implicit policies
    t_range: list[float] = field(default_factory=lambda: [0.3, 1.0])  # nft: uniform times
    clip_range: float = 0.01  # grpo
    guard: bool = False  # grpo: GRPO-Guard's normalised ratio and equal weight of all steps; its clip_range is far smaller (paper: 2e-6)
    kl: float = 0.0  # weight of the distance to the start: grpo of the steps' Gaussians, nft of the velocities
    average: float = 0.0  # decay per step of the weight average that is judged and handed on; 0: the weights themselves
    old_decay: float = 0.0  # the rollout policy is an average of the trained one; 0 follows it at once
    lora: LoRAConfig = field(default_factory=LoRAConfig)  # train adapters and merge them at the end; also kept as a file for diffusers
    supervised: float = 0.3  # weight of ordinary flow matching on real samples
    real_batch: int = 32  # real samples per update
    stage: int = 6  # manifest of the real samples
    ti2i_share: float = 0.3
    dropout: float = 0.1
    t_mean: float = 0.5  # real samples: logit-normal times
    t_std: float = 1.2
    ema: float = 0.9  # of the spreads that move prompts and weights
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-5, warmup=5))
