"""Stage `enhancer`: the prompt enhancer after RL, with the generator that reads what it writes in the loop."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.reporter import Reporter
from qi2.enhancer.train import EnhancerInputs, train_enhancer
from qi2.pipeline import Pipeline
from qi2.rewards.score import RewardModels

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OUT = "enhancer"
REWARDS = ("aesthetic", "alignment", "instruction")


def run(recipe: "Recipe", runs: Path, out: Path, reporter: Reporter) -> None:
    """The generator named by ``enhancer.generator`` draws, the run's reward models judge what the world's truth does not."""
    config, vlm = recipe.enhancer, runs / "standins" / "vlm"
    pipe = replace(Pipeline.load(runs, config.generator, config.device), sampler=recipe.sampler, size=config.size, batch=config.batch, quiet=True)
    scorers = RewardModels.load(runs / "rewards", vlm, REWARDS, config.device).scorers()
    inputs = EnhancerInputs(runs / "enhancer_sft", runs / "raw", runs / ".checkpoints" / OUT)
    train_enhancer(recipe, inputs, pipe.paint, scorers, out, reporter)
