"""Which models an evaluation compares and how each is sampled. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qi2.models.config import Schedule

LABELS = {
    "pretrain": "base",
    "continual": "continual",
    "sft": "SFT",
    "rlhf": "RL",
    "teacher": "RL, many steps",
    "distill": "4-step student",
    "teacher_4step": "RL at 4 steps",
    "untrained_4step": "4 steps, unguided",
}
CHAIN = ("pretrain", "continual", "sft", "rlhf", "distill")
STUDENT, TEACHER = "distill", "rlhf"


@dataclass(frozen=True)
class Contender:
    """One model with one way of sampling it."""

    name: str
    folder: Path
    schedule: Schedule
    guidance: float = 1.0
    edit_guidance: float = 1.0
    rescale: float = 0.0
    interval: tuple[float, ...] = (0.0, 1.0)
    edits: bool = True  # whether it also takes the editing suite

    def evaluations(self) -> int:
        """Network evaluations per text-to-image sample."""
        return self.schedule.steps * (1 if self.guidance == 1 else 2)

    def sampler(self) -> tuple[Any, ...]:
        """What decides the pictures: contenders with equal samplers draw the same ones."""
        return self.folder, self.schedule, self.guidance, self.edit_guidance, self.rescale, self.interval


def contenders(cfg: Any, models: Mapping[str, Path], steps: int) -> list[Contender]:
    """One contender per folder: distilled students by their few-step sampler, all others with ``steps`` guided Euler steps."""
    return [_student(cfg, name, Path(folder)) if is_student(name, Path(folder)) else _guided(cfg, name, Path(folder), steps) for name, folder in models.items()]


def chain_contenders(cfg: Any, runs: Path) -> list[Contender]:
    """The chain's models that exist in ``runs``, the many-step teacher and both few-step baselines.

    The baselines are the teacher itself, guided in as few steps as the student takes (twice its evaluations), and by the student's sampler.
    """
    present = {name: runs / name for name in CHAIN if (runs / name / "model.safetensors").exists()}
    found = contenders(cfg, present, cfg.evaluate.chain_steps)
    if TEACHER in present:
        teacher = present[TEACHER]
        few = (_guided(cfg, "teacher_4step", teacher, cfg.sampler.few_steps), _student(cfg, "untrained_4step", teacher))
        found += [replace(entry, edits=False) for entry in (_guided(cfg, "teacher", teacher, cfg.evaluate.steps), *few)]
    return found


def _guided(cfg: Any, name: str, folder: Path, steps: int) -> Contender:
    s = cfg.sampler
    return Contender(name, folder, s.schedule(steps), s.guidance, s.edit_guidance, s.guidance_rescale, tuple(s.guidance_interval))


def _student(cfg: Any, name: str, folder: Path) -> Contender:
    return Contender(name, folder, cfg.sampler.few())


def is_student(name: str, folder: Path) -> bool:
    """Whether a model folder holds a distilled student."""
    return name == STUDENT or folder.resolve().name == STUDENT
