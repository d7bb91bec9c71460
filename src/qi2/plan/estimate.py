"""A row per stage and size: memory, micro-batch, work, time and cost, or why it does not fit."""

import math
from dataclasses import dataclass

from qi2.core.errors import QI2Error
from qi2.plan.cards import card
from qi2.plan.config import CHECKPOINTINGS, DTYPES, SHARDINGS, PlanConfig
from qi2.plan.flops import Flops
from qi2.plan.memory import Memory, memory, micro_batch, nearest_fit, usable
from qi2.plan.stages import Job, jobs
from qi2.recipe import Recipe

DAY = 86400


@dataclass(frozen=True)
class Row:
    """One stage at one size. flops: per sample. seconds: per step. problem: empty where it fits, else what does instead."""

    stage: str
    side: int
    parameters: int
    batch: int
    steps: float
    micro: int
    accumulation: int
    idle: int
    tokens: float
    flops: Flops
    memory: Memory
    seconds: float
    days: float
    cost: float
    problem: str


def estimate(recipe: Recipe, plan: PlanConfig) -> list[Row]:
    """The plan of all training stages. Raises QI2Error for an unknown card, sharding, checkpointing or dtype, or an impossible number."""
    _check(plan)
    return [_row(job, plan) for job in jobs(recipe, plan)]


def _check(plan: PlanConfig) -> None:
    for name, known in (("sharding", tuple(SHARDINGS)), ("checkpointing", CHECKPOINTINGS), ("dtype", DTYPES), ("batches", ("recipe", "table2"))):
        if getattr(plan, name) not in known:
            raise QI2Error(f"--{name} is {getattr(plan, name)!r}; choose one of {', '.join(known)}")
    if plan.gpus < 1 or plan.text_tokens < 1 or plan.references < 0 or not 0 < plan.utilisation <= 1:
        raise QI2Error("a plan needs at least one card, one text token and a utilisation in (0, 1]; change --gpus, --text-tokens or --utilisation")


def _row(job: Job, plan: PlanConfig) -> Row:
    kind = card(plan.kind)
    micro = micro_batch(job, plan, kind)
    flops = job.flops(plan.checkpointing == "block")
    share = math.ceil(job.batch / plan.gpus)
    seconds = share * flops.total / (kind.peak * 1e12 * plan.utilisation)
    days = job.steps * seconds / DAY
    price = kind.price if plan.price is None else plan.price
    needed = memory(job, plan, max(micro, 1))
    problem = "" if micro else f"{job.stage} at {job.side} px does not fit with {plan.sharding}: {needed.total:.2f} of {usable(kind, plan):.1f} GB"
    return Row(
        job.stage, job.side, job.parameters, job.batch, job.steps, micro, math.ceil(share / max(micro, 1)), max(0, plan.gpus - job.batch),
        job.tokens, flops, needed, seconds, days, days * 24 * plan.gpus * price, f"{problem}; {nearest_fit(job, plan, kind)}" if problem else "",
    )  # fmt: skip
