"""Stage `rlhf`: the model aligned with GRPO."""

from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.rlhf.train import RLHFInputs, train_rlhf

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "rlhf"


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """The reward models that have a weight become scorers of the rollouts."""
    inputs = RLHFInputs(runs / "encoded", runs / "sft", runs / "vae", runs / "standins" / "vlm", runs / ".checkpoints" / OUT)
    train_rlhf(recipe, inputs, {}, out, reporter)
