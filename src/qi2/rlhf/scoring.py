"""Rewards of a rollout: any number of named scorers, and what the world's exact checker says, in two of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.data.world.checker import check, check_edit
from qi2.data.world.credit import credit
from qi2.data.world.edits import Edit
from qi2.data.world.scene import Scene
from qi2.rlhf.prompts import Prompt

CHECKER, EXACT = "checker", "exact"


@dataclass
class RolloutSample:
    """One generated image and what it was asked to be."""

    prompt: Prompt
    image: Image.Image


Scorer = Callable[[Sequence[RolloutSample]], Tensor]
"""Scores (N,) of N samples, higher is better; NaN where the reward does not apply (a portrait reward on a landscape)."""


def checker(samples: Sequence[RolloutSample]) -> Tensor:
    """The world's verifiable reward in [0, 1]: half for the share of right attributes, half for all of them right.

    An edit gets half for being done and half for leaving the rest alone. NaN where the truth is not known.
    """
    return torch.tensor([float("nan") if (found := _found(sample)) is None else credit(found) for sample in samples])


def exact(samples: Sequence[RolloutSample]) -> Tensor:
    """The world's truth: 1 where a picture shows all that was asked for, or is the whole target of an edit, else 0; NaN where it is not known."""
    return torch.tensor([float("nan") if (found := _found(sample)) is None else float(found["all"]) for sample in samples])


def _found(sample: RolloutSample) -> Mapping[str, bool | float] | None:
    """What the exact checker finds; None where the truth is not known."""
    truth = sample.prompt.truth
    if isinstance(truth, Scene):
        return check(sample.image, truth)
    return check_edit(sample.image, truth, sample.prompt.sources[0]) if isinstance(truth, Edit) else None


def choose_scorers(weights: Mapping[str, float], given: Mapping[str, Scorer]) -> dict[str, Scorer]:
    """The scorers of all rewards with a weight; `checker` and `exact` are always there.

    Raises QI2Error where a reward has a weight but no scorer.
    """
    known = {CHECKER: checker, EXACT: exact, **given}
    missing = [name for name, weight in weights.items() if weight > 0 and name not in known]
    if missing:
        raise QI2Error(f"rlhf.rewards: no scorer for {', '.join(missing)}; known are {', '.join(sorted(known))}; set the weight to 0")
    chosen = {name: known[name] for name, weight in weights.items() if weight > 0}
    if not chosen:
        raise QI2Error("rlhf.rewards: every weight is 0; give one to at least one reward")
    return chosen
