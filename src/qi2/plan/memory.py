"""Memory of one card by part, the largest micro-batch that fits, and what fits instead where none does."""

import math
from dataclasses import astuple, dataclass, replace

from qi2.plan.cards import Card
from qi2.plan.config import CHECKPOINTINGS, SHARDINGS, PlanConfig
from qi2.plan.stages import Job

BYTES = {"bf16": 2, "fp32": 4}
MOMENTS = {"adam": 2, "muon": 1}
GATHERED = 2  # blocks whose weights full sharding holds at once: the one in use and the next


@dataclass(frozen=True)
class Memory:
    """GB (10^9 bytes) on one card; activations are those of the micro-batch."""

    weights: float
    gradients: float
    optimizer: float
    ema: float
    frozen: float
    activations: float

    @property
    def total(self) -> float:
        return float(sum(astuple(self)))


def memory(job: Job, plan: PlanConfig, micro: int) -> Memory:
    """What a card holds at the peak of a step with ``micro`` samples at a time."""
    weights_split, gradients_split, optimizer_split = (plan.gpus if split else 1 for split in SHARDINGS[plan.sharding])
    width, trained = BYTES[plan.dtype], job.parameters * job.copies
    states = 4 * (MOMENTS[job.optimizer] + (plan.dtype != "fp32"))
    gathered = GATHERED * job.unit * width if weights_split > 1 else 0
    parts = (
        trained * width / weights_split + gathered,
        trained * width / gradients_split,
        trained * states / optimizer_split,
        job.ema * job.parameters * 4 / weights_split,
        job.frozen * width / weights_split,
        micro * job.activations(plan.checkpointing == "block"),
    )
    return Memory(*(part / 1e9 for part in parts))


def usable(card: Card, plan: PlanConfig) -> float:
    """GB of a card that a training step may fill."""
    return card.memory * (1 - plan.reserve)


def micro_batch(job: Job, plan: PlanConfig, card: Card) -> int:
    """The largest number of samples at a time that fits, no more than a card's share of the batch; 0 where not even one does."""
    fixed = memory(job, plan, 0).total
    each = memory(job, plan, 1).activations
    return max(0, min(math.floor((usable(card, plan) - fixed) / each), math.ceil(job.batch / plan.gpus)))


def nearest_fit(job: Job, plan: PlanConfig, card: Card) -> str:
    """The smallest change of the plan with which one sample fits, in words: sharding and recomputation first, then more cards."""
    order = list(SHARDINGS)
    for sharding in order[order.index(plan.sharding) :]:
        for checkpointing in CHECKPOINTINGS[CHECKPOINTINGS.index(plan.checkpointing) :]:
            found = _words(job, replace(plan, sharding=sharding, checkpointing=checkpointing), card)
            if found:
                return found
    gpus = plan.gpus
    while gpus < 65536:
        gpus *= 2
        found = _words(job, replace(plan, sharding="zero3", checkpointing="block", gpus=gpus), card)
        if found:
            return f"{found} on {gpus} cards"
    least = memory(job, replace(plan, sharding="zero3", checkpointing="block", gpus=gpus), 1).total
    return f"no sharding over cards of this kind is enough: one sample takes {least:.2f} GB with zero3 and block checkpointing on any number of them"


def _words(job: Job, plan: PlanConfig, card: Card) -> str:
    needed = memory(job, plan, 1).total
    recomputation = "block checkpointing" if plan.checkpointing == "block" else "no checkpointing"
    return f"fits with {plan.sharding} and {recomputation}: {needed:.2f} GB" if needed <= usable(card, plan) else ""
