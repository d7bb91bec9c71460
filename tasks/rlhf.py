"""Stage `rlhf`: the model aligned with GRPO."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.rewards.score import RewardModels
from qi2.rlhf.train import RLHFInputs, train_rlhf

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "rlhf"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """The five reward models judge the rollouts; the weights are those of ``rlhf.rewards``."""
    vlm = runs / "standins" / "vlm"
    checkpoints = runs / ".checkpoints" / OUT
    inputs = RLHFInputs(runs / "encoded", runs / "sft", runs / "vae", vlm, checkpoints, runs / "raw", runs / "curated")
    scorers = RewardModels.load(runs / "rewards", vlm).scorers(recipe.rewards.portrait_words)
    train_rlhf(recipe, inputs, scorers, out, reporter)
