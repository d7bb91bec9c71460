"""Parameters of few-step distillation (report section 4.3). Torch-free.

The report gives DMD's gradient (eq. 4), the noising (eq. 5), "e.g. logit-normal" times and 4 evaluations; guidance, update ratio, rates
and the student's times are not printed and are ours.
"""

from dataclasses import dataclass, field

from qi2.core.errors import QI2Error
from qi2.models.config import LoRAConfig
from qi2.training.config import OptimizerConfig

TEACHERS = ("rlhf", "sft")
SCHEDULES = ("shared", "decoupled")


@dataclass
class DistillConfig:
    """``steps`` student updates, each followed by ``fake_updates`` of the fake score. The student takes the Euler steps of
    ``sampler.few_steps`` and ``sampler.few_shift``, here as in use.

    schedules: ``shared`` uses one time for the whole of eq. 4, with the guided teacher. ``decoupled`` takes guidance out of it (Liu et al., 2025,
    "Decoupled DMD", arXiv:2511.22677, Algorithm 1, whose times run from noise at 0 to data at 1): the teacher without guidance is matched at
    times of its own, and guidance acts at times uniform between data and the student's own time, where only what the student still draws
    is undecided; ``sampler.guidance_interval`` and ``guidance_rescale`` then do not apply.
    """

    threads: int = 0  # CPU threads of one operation in this stage, where it differs from the recipe's
    teacher: str = "rlhf"  # whose folder: the report's text names the base model (sft), its Figure 11 the RL model (rlhf)
    steps: int = 2000
    sizes: list[int] = field(default_factory=lambda: [256])  # px, one drawn per step
    batch_size: int = 32
    stage: int = 6  # manifest whose conditions are used
    ti2i_share: float = 0.3  # Table 2, SFT
    kind_weights: dict[str, float] = field(default_factory=dict)  # relative draw weight per kind; 1 where absent
    guidance: float = 4.0  # of the real score, T2I
    edit_guidance: float = 2.0  # of the real score, TI2I
    schedules: str = "shared"
    fake_updates: int = 5  # DMD2: 5 for a large model
    fake_warmup: int = 0  # updates of the fake score before the first of the student, each on new samples
    t_mean: float = 0.0  # logit-normal times of eq. 5
    t_std: float = 1.0
    ema: float = 0.0  # decay per step of the average of the student's weights that training ends with; 0: its last weights (ours)
    lora: LoRAConfig = field(default_factory=LoRAConfig)  # student and fake score are adapters over the teacher's weights, which stand in memory once
    student: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-5))
    fake: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-5))

    def check(self) -> None:
        """Raise QI2Error where a choice does not exist."""
        for name, known in (("teacher", TEACHERS), ("schedules", SCHEDULES)):
            if getattr(self, name) not in known:
                raise QI2Error(f"distill.{name} {getattr(self, name)!r} is not known; choose one of {', '.join(known)}")
        if self.lora.path:
            raise QI2Error("distill.lora.path cannot be used: student and fake score begin as the teacher; merge the adapter into the teacher first")
