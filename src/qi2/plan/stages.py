"""The line's training stages as jobs: how many samples of which shapes each step passes through which networks."""

from dataclasses import dataclass, field

from qi2.mmdit.config import PhaseConfig
from qi2.plan.config import PlanConfig
from qi2.plan.flops import Flops
from qi2.plan.measure import Meter, Shape, Work
from qi2.recipe import Recipe


@dataclass(frozen=True)
class Passes:
    """Per sample of a step: passes with backward, and forward passes alone, of the condition and of the target."""

    training: float = 1.0
    condition: float = 0.0
    target: float = 0.0


@dataclass
class Job:
    """One stage at one size. ``copies`` networks of ``parameters`` train; ``frozen`` parameters only stand in memory; mixture: (share, shape)."""

    stage: str
    side: int
    batch: int
    steps: float
    parameters: int
    optimizer: str
    mixture: list[tuple[float, Shape]]
    meter: Meter
    copies: int = 1
    frozen: int = 0
    ema: bool = False
    passes: Passes = field(default_factory=Passes)
    refine_share: float | None = None  # of the VAE: share of the steps that train the decoder alone

    @property
    def tokens(self) -> float:
        """Mean tokens per sample: condition, references and target. Of the VAE: latent positions."""
        return sum(share * shape.tokens for share, shape in self.mixture)

    @property
    def unit(self) -> int:
        """Parameters of the largest part that full sharding gathers at once."""
        return self.parameters if self.refine_share is not None else self.meter.block_parameters

    def flops(self, recompute: bool) -> Flops:
        """Mean work per sample and step."""
        if self.refine_share is not None:
            own = self.meter.architecture.checkpointing
            full, refine = (self.meter.vae(self.side, own, r).training for r in (False, True))
            return full * (1 - self.refine_share) + refine * self.refine_share
        each = [(share, self._of(self.meter.mmdit(shape, recompute))) for share, shape in self.mixture]
        return sum((flops * share for share, flops in each), Flops())

    def activations(self, recompute: bool) -> float:
        """Bytes that the longest kind of sample keeps for the backward pass. Of the VAE, an upper bound: recomputing a stage saves little at its peak."""
        if self.refine_share is not None:
            return self.meter.vae(self.side, False, False).saved
        longest = max((shape for share, shape in self.mixture if share), key=lambda shape: shape.tokens)
        return self.meter.mmdit(longest, recompute).saved + (self.meter.block(longest) if recompute else 0.0)

    def _of(self, work: Work) -> Flops:
        passes = self.passes
        return work.training * passes.training + work.condition * passes.condition + work.forward * passes.target


def jobs(recipe: Recipe, plan: PlanConfig) -> list[Job]:
    """All training stages of the recipe, a job per size."""
    meter = Meter(recipe.mmdit, recipe.vae.model, plan.dtype)
    phases = [job for name in ("pretrain", "continual", "sft") for job in _phase(name, getattr(recipe, name), plan, meter)]
    return [*_vae(recipe, meter), *phases, _rlhf(recipe, plan, meter), *_distill(recipe, plan, meter)]


def _vae(recipe: Recipe, meter: Meter) -> list[Job]:
    cfg, found = recipe.vae, []
    total = sum(batch.share for batch in cfg.batches)
    for batch in cfg.batches:
        steps, mixture = cfg.steps * batch.share / total, [(1.0, Shape(0, 0, batch.side))]
        ema = cfg.ema > 0
        found.append(Job("vae", batch.side, batch.size, steps, meter.vae_parameters, cfg.optimizer, mixture, meter, ema=ema, refine_share=cfg.refine_share))
    return found


def _mixture(edits: float, side: int, plan: PlanConfig) -> list[tuple[float, Shape]]:
    return [(1 - edits, Shape(plan.text_tokens, 0, side)), (edits, Shape(plan.text_tokens, plan.references, side))]


def _phase(name: str, phase: PhaseConfig, plan: PlanConfig, meter: Meter) -> list[Job]:
    smallest = min((side for stage in phase.stages for side in stage.sizes), default=1)
    found = []
    for stage in phase.stages:
        weights = stage.size_weights or [1.0] * len(stage.sizes)
        own = stage.batch_sizes or [phase.batch_size] * len(stage.sizes)
        for side, given, weight in zip(stage.sizes, own, weights, strict=True):
            batch = phase.batch_size * smallest // side if plan.batches == "table2" else given
            steps, mixture = stage.steps * weight / sum(weights), _mixture(stage.ti2i_share, side, plan)
            label = f"{name} {stage.stage}"
            found.append(Job(label, side, max(1, batch), steps, meter.parameters, phase.optimizer.name, mixture, meter, ema=phase.ema > 0))
    return found


def _rlhf(recipe: Recipe, plan: PlanConfig, meter: Meter) -> Job:
    """Rollout with guidance by a frozen old policy, then updates on all samples and on real ones; rewards are not counted."""
    cfg, roll = recipe.rlhf, recipe.rlhf.rollout
    batch = roll.prompts * roll.group
    guided = 2 if roll.guidance != 1 else 1
    old = 0 if cfg.objective == "supervised" else 1
    passes = Passes(cfg.updates * (old + cfg.real_batch / batch), (1 + cfg.updates) / roll.group * old, (roll.steps * guided + cfg.updates) * old)
    mixture = _mixture(cfg.prompts.edit_share, cfg.size, plan)
    kept = 2 + (cfg.judge.every > 0)  # the old policy, the reference and, with a judge, the best one
    frozen = kept * meter.parameters + meter.vae_parameters
    return Job("rlhf", cfg.size, batch, cfg.steps, meter.parameters, cfg.optimizer.name, mixture, meter, frozen=frozen, passes=passes)


def _distill(recipe: Recipe, plan: PlanConfig, meter: Meter) -> list[Job]:
    """Student and fake score train, the guided teacher is frozen; the student's exit step is uniform over its few steps.

    A step of the fake score's warm-up has neither the teacher's passes nor the student's update.
    """
    cfg, before = recipe.distill, (recipe.sampler.few_steps - 1) / 2
    teacher = 1 if cfg.guidance == 1 else 2 if cfg.schedules == "shared" else 3
    warm = cfg.fake_warmup / max(cfg.fake_warmup + cfg.steps, 1)
    passes = Passes((1 - warm) * (1 + cfg.fake_updates) + warm, (1 - warm) * 2 + warm, before + 1 + (1 - warm) * teacher)
    found = []
    for side in cfg.sizes:
        mixture, steps = _mixture(cfg.ti2i_share, side, plan), (cfg.fake_warmup + cfg.steps) / len(cfg.sizes)
        job = Job("distill", side, cfg.batch_size, steps, meter.parameters, cfg.student.name, mixture, meter, copies=2, frozen=meter.parameters)
        job.ema, job.passes = cfg.ema > 0, passes
        found.append(job)
    return found
