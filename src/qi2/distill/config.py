"""Parameters of few-step distillation (report section 4.3). Torch-free.

The report gives DMD's gradient (eq. 4), the noising (eq. 5), "e.g. logit-normal" times and 4 evaluations; guidance, update ratio, rates
and the student's times are not printed and are ours.
"""

from dataclasses import dataclass, field

from qi2.training.config import OptimizerConfig


@dataclass
class DistillConfig:
    """``steps`` student updates, each followed by ``fake_updates`` of the fake score. The student takes the Euler steps of
    ``sampler.few_steps`` and ``sampler.few_shift``, here as in use."""

    threads: int = 0  # CPU threads of one operation in this stage, where it differs from the recipe's
    steps: int = 2000
    sizes: list[int] = field(default_factory=lambda: [256])  # px, one drawn per step
    batch_size: int = 32
    stage: int = 6  # manifest whose conditions are used
    ti2i_share: float = 0.3  # Table 2, SFT
    kind_weights: dict[str, float] = field(default_factory=dict)  # relative draw weight per kind; 1 where absent
    guidance: float = 4.0  # of the real score, T2I
    edit_guidance: float = 2.0  # of the real score, TI2I
    fake_updates: int = 5  # DMD2: 5 for a large model
    t_mean: float = 0.0  # logit-normal times of eq. 5
    t_std: float = 1.0
    ema: float = 0.0  # decay per step of the average of the student's weights that training ends with; 0: its last weights (ours)
    student: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-5))
    fake: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-5))
