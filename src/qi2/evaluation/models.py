"""Which models an evaluation compares and how each is sampled. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABELS = {
    "pretrain": "base",
    "continual": "continual",
    "sft": "SFT",
    "rlhf": "RL",
    "teacher": "RL, many steps",
    "distill": "4-step student",
    "teacher_4step": "RL at 4 steps",
    "untrained_4step": "RL re-noised, 4 steps",
}
CHAIN = ("pretrain", "continual", "sft", "rlhf", "distill")
STUDENT, TEACHER = "distill", "rlhf"


@dataclass(frozen=True)
class Contender:
    """One model with one way of sampling it. ``renoise`` is the few-step sampler of distilled students; it takes no guidance."""

    name: str
    folder: Path
    steps: int
    guidance: float = 1.0
    edit_guidance: float = 1.0
    renoise: bool = False
    edits: bool = True  # whether it also takes the editing suite

    def evaluations(self) -> int:
        """Network evaluations per text-to-image sample."""
        return self.steps * (1 if self.renoise or self.guidance == 1 else 2)

    def sampler(self) -> tuple[Any, ...]:
        """What decides the pictures: contenders with equal samplers draw the same ones."""
        return self.folder, self.steps, self.guidance, self.edit_guidance, self.renoise


def contenders(cfg: Any, models: Mapping[str, Path], steps: int) -> list[Contender]:
    """One contender per folder: distilled students by their few-step sampler, all others with ``steps`` guided Euler steps."""
    return [_contender(cfg, name, Path(folder), steps) for name, folder in models.items()]


def chain_contenders(cfg: Any, runs: Path) -> list[Contender]:
    """The chain's models that exist in ``runs``, the many-step teacher and both few-step baselines."""
    present = {name: runs / name for name in CHAIN if (runs / name / "model.safetensors").exists()}
    found = contenders(cfg, present, cfg.evaluate.chain_steps)
    if TEACHER in present:
        teacher, few = present[TEACHER], cfg.evaluate.few_steps
        guided = {"guidance": cfg.sampler.guidance, "edit_guidance": cfg.sampler.edit_guidance, "edits": False}
        found.append(Contender("teacher", teacher, cfg.evaluate.steps, **guided))
        found.append(Contender("teacher_4step", teacher, few, **guided))
        found.append(Contender("untrained_4step", teacher, few, renoise=True, edits=False))
    return found


def _contender(cfg: Any, name: str, folder: Path, steps: int) -> Contender:
    if is_student(name, folder):
        return Contender(name, folder, cfg.evaluate.few_steps, renoise=True)
    return Contender(name, folder, steps, cfg.sampler.guidance, cfg.sampler.edit_guidance)


def is_student(name: str, folder: Path) -> bool:
    """Whether a model folder holds a distilled student."""
    return name == STUDENT or folder.resolve().name == STUDENT
