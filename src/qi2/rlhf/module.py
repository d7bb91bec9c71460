"""Group-relative policy optimisation of the MMDiT: one step is one scored rollout and the updates that learn from it."""

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from qi2.config import as_dict
from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.models import flow
from qi2.models.mmdit import MMDiT
from qi2.models.sequence import Prefix
from qi2.objectives.policy import advantages, divergence, gaussian_kl, log_ratio, nft_loss, ratio_loss, spread
from qi2.rlhf.balance import KindShares, RewardBalance
from qi2.rlhf.config import OBJECTIVES, RLHFConfig
from qi2.rlhf.judge import EarlyStop, Judge, Verdict
from qi2.rlhf.prompts import PromptPool
from qi2.rlhf.rollout import Rollout, Sampler
from qi2.training.data_plan import PlanSettings
from qi2.training.encoded import EncodedSet
from qi2.training.manual import ManualModule
from qi2.training.mixture import Mixture, Part, add_noise, in_blocks, supervised_losses
from qi2.training.versions import network_hash


class RLHFModule(ManualModule):
    """The trained policy, the old policy that rolls out, the frozen reference, and all that steers rewards, prompts and the end.

    The rollout may use guidance; the objective sees the conditional branch alone (report section 4.2).
    """

    def __init__(
        self, model: MMDiT, data: EncodedSet, pool: PromptPool, sampler: Sampler, config: RLHFConfig, seed: int, judge: Judge | None = None
    ) -> None:  # fmt: skip
        super().__init__(config.steps)
        if config.objective not in OBJECTIVES:
            raise QI2Error(f"rlhf.objective {config.objective!r} is not known; choose one of {', '.join(OBJECTIVES)}")
        self.model, self.old = model, _twin(model)
        self.frozen = [_twin(model).eval()]  # in a list: no part of the module's state
        self.start = network_hash(self.frozen[0], as_dict(model.config))
        self.data, self.pool, self.sampler, self.config, self.seed = data, pool, sampler, config, seed
        self.eager = data.online
        settings = PlanSettings([config.size], [config.real_batch], config.ti2i_share)
        self.mixture = Mixture(data, config.stage, settings, seed, "rlhf/real")
        base = {name: config.rewards[name] for name in sampler.scorers}
        self.balance = RewardBalance(base, config.ema, config.reward_floor, config.reward_rate, config.reward_limit)
        self.shares = KindShares(pool.kinds, config.ema, config.prompts.floor)
        self.judge = judge
        self.stop = EarlyStop(config.judge, model, len(judge.prompts)) if judge else None
        self.history: list[dict[str, float]] = []  # of all judgements

    @property
    def reference(self) -> MMDiT:
        """The policy that training began with."""
        return self.frozen[0].to(self.device)

    def facts(self) -> dict[str, Any]:
        asked = rng.key(self.seed, "|".join(prompt.text for prompt in self.pool.prompts))
        config, data = as_dict(self.config), self.mixture.plan.fingerprint()
        return {"seed": self.seed, "rlhf": config, "data": data, "start": self.start, "prompts": asked}

    def batch(self, step: int) -> list[Part]:
        """Real samples for every update of the step."""
        return [self.mixture.part(step * self.config.updates + update, self.config.dropout) for update in range(self.config.updates)]

    def training_step(self, batch: list[Part], _: int) -> None:
        if self.steps_done == 0:
            self.look(0)
        rollout = None if self.config.objective == "supervised" else self.roll_out()
        with self.speed.part("update"):
            draw = rng.generator(self.seed, "rlhf/update", self.steps_done)
            for part in batch:
                self.update_all(self.losses(part, rollout, draw))
            self.advance()
            self.follow()
        done = self.steps_done + 1
        if self.config.judge.every and (done % self.config.judge.every == 0 or done == self.total_steps):
            self.look(done)

    def roll_out(self) -> Rollout:
        """Draw prompts, sample and score them with the old policy; only groups with a spread come back."""
        draw = rng.numpy_rng(self.seed, "rlhf/prompts", self.steps_done)
        prompts = self.pool.draw(draw, self.config.rollout.prompts, self.shares.factors().numpy())
        with self.speed.part("rollout"):
            rollout = self.sampler.draw(self.old, prompts, self.seed, self.steps_done, stochastic=self.config.objective == "grpo")
        with self.speed.part("reward"):
            rollout.rewards = self.sampler.score(rollout)
        self.balance.see_rollout(rollout.rewards)
        rollout.advantages = advantages(rollout.rewards, self.balance.weights(), self.config.scale, self.config.limit)
        informative = rollout.advantages.abs().amax(dim=1) > 0
        self.shares.see_rollout([prompt.kind for prompt in rollout.prompts], rollout.advantages)
        self._observe_rollout(rollout)
        self.observe({"rlhf/informative": informative.float().mean()})
        return rollout.select(informative)

    def _observe_rollout(self, rollout: Rollout) -> None:
        self.observe({f"rlhf/weight/{name}": weight for name, weight in self.balance.weights().items()})
        self.observe({f"rlhf/share/{kind}": float(factor) for kind, factor in zip(self.pool.kinds, self.shares.factors(), strict=True)})
        for name, values in rollout.rewards.items():
            valid = ~values.isnan().any(dim=1)
            if valid.any():
                self.observe({f"rlhf/reward/{name}": values[valid].mean(), f"rlhf/spread/{name}": spread(values)[valid].mean()})

    def losses(self, part: Part, rollout: Rollout | None, draw: torch.Generator) -> Iterator[Tensor]:
        """What one update minimises, in pieces that are each as much as memory holds: their gradients add up."""
        anchor = 1.0 if rollout is None else self.config.supervised
        if anchor:
            yield anchor * self.supervised(part)
        if rollout is None or not rollout.prompts:
            return
        for piece in rollout.parts(self.config.rollout.batch):
            yield len(piece.prompts) / len(rollout.prompts) * self.policy_loss(piece, draw)

    def supervised(self, part: Part) -> Tensor:
        """Flow matching on real samples: the anchor that keeps what rewards do not measure."""
        noised = add_noise(part, self.config.t_mean, self.config.t_std, self.seed, "rlhf/real_noise", self.device)
        loss = supervised_losses(self.model, self.data, part, noised).mean()
        self.observe({"rlhf/loss_supervised": loss.detach()})
        return loss

    def policy_loss(self, rollout: Rollout, draw: torch.Generator) -> Tensor:
        """The chosen objective over all samples of all groups, conditional branch only."""
        prefix = self.prefix(self.model, rollout)
        loss = self._forward_process(rollout, prefix, draw) if self.config.objective == "nft" else self._ratio(rollout, prefix)
        self.observe({"rlhf/loss_policy": loss.detach()}, len(rollout.prompts))
        return loss

    def prefix(self, network: MMDiT, rollout: Rollout) -> Prefix:
        """What a network makes of the prompts, once per prompt, for all samples of its group."""
        return network.encode_condition(rollout.condition()).repeat(rollout.x0.shape[1])

    def _forward_process(self, rollout: Rollout, prefix: Prefix, draw: torch.Generator) -> Tensor:
        """Needs clean samples only, however they came about: guidance in the rollout asks for no correction. What follows is that the conditional
        branch learns to do alone what guidance did, in samples above average as much as the reward says; guided again when used, it may overshoot."""
        x0 = rollout.x0.flatten(0, 1)
        low, high = self.config.t_range
        t = (low + (high - low) * torch.rand(len(x0), generator=draw)).to(x0.device)
        x_t = flow.interpolate(x0, torch.randn(x0.shape, generator=draw).to(x0.device), t)
        new, old = self.model(x_t, t, prefix), self.old(x_t, t, self.prefix(self.old, rollout))
        optimality = 0.5 + rollout.advantages.flatten().to(x0.device) / (2 * self.config.limit)
        loss = nft_loss(new, old, x_t, x0, t, optimality, self.config.beta)
        if self.config.kl:
            reference = self.reference(x_t, t, self.prefix(self.reference, rollout))
            loss = loss + self.config.kl * divergence(new, reference).mean()
        return loss

    def _ratio(self, rollout: Rollout, prefix: Prefix) -> Tensor:
        """The old mean is that of the old policy's conditional branch, so that the ratio is exactly one at the first update.

        The step to x_next was drawn from the guided mean m_g, not from the conditional one m_c. Under the old conditional policy its noise is therefore
        eps + (m_g - m_c) / std: besides the reinforcement of lucky noise, samples above their group's mean pull the conditional mean towards the guided
        one and samples below push it away. Over a group, whose advantages sum to zero, what is left is how guidance's pull goes with the advantage.
        """
        advantage, guard, clip = rollout.advantages.flatten().to(rollout.x0.device), self.config.guard, self.config.clip_range
        old_prefix = self.prefix(self.old, rollout)
        losses = []
        for step in rollout.transitions:
            mean, old_mean = self.sampler.mean(self.model, prefix, step), self.sampler.mean(self.old, old_prefix, step)
            ratio = log_ratio(step.x_next, mean, old_mean, step.std, guard)
            losses.append(ratio_loss(ratio, advantage, clip) / ((step.now - step.after) if guard else 1.0))
            if self.config.kl:
                reference_mean = self.sampler.mean(self.reference, self.prefix(self.reference, rollout), step)
                losses[-1] = losses[-1] + self.config.kl * gaussian_kl(mean, reference_mean, step.std).mean()
            off = (ratio.detach().exp() - 1).abs()
            self.observe({"rlhf/ratio_off": off.mean(), "rlhf/clipped": (off > clip).float().mean()})
        return torch.stack(losses).mean()

    def look(self, step: int) -> None:
        """Judge the policy, move the reward weights, keep the best, and end the run where a limit is passed."""
        if self.judge is None or self.stop is None:
            return
        averaged = nullcontext() if self.average is None else self.average.instead(self.model)
        with self.speed.part("judge"), averaged:
            verdict = self.judge(self.model, self.reference)
            reason = self.stop(verdict, self.model, step)
        self.balance.see_judgement(verdict.rewards)
        figures = self._figures(verdict)
        self.history.append({"step": float(step), **figures})
        self.observe(figures)
        if reason:
            self.ended = f"{reason}; the best policy is that of step {int(self.stop.best_step)}"

    def _figures(self, verdict: Verdict) -> dict[str, float]:
        """A judgement in numbers: ``judge/reward`` is the composite on fixed prompts, ``judge/truth`` what the judge says."""
        assert self.judge is not None
        found = {"judge/truth": float(verdict.truth.nanmean()), "judge/reward": self.balance.composite(verdict.rewards)}
        found |= {"judge/diversity": verdict.diversity, "judge/kl": verdict.kl}
        found |= {f"judge/reward/{name}": float(values.nanmean()) for name, values in verdict.rewards.items()}
        found |= {f"judge/weight/{name}": weight for name, weight in self.balance.weights().items()}
        for kind in dict.fromkeys(prompt.kind for prompt in self.judge.prompts):
            here = [i for i, prompt in enumerate(self.judge.prompts) if prompt.kind == kind]
            found[f"judge/truth/{kind}"] = float(verdict.truth[here].nanmean())
        return {name: value for name, value in found.items() if value == value}

    def picture(self) -> Image.Image | None:
        return self.judge.picture(self.model, self.reference) if self.judge else None

    @torch.no_grad()
    def follow(self) -> None:
        """Move the old policy towards the trained one."""
        for old, new in zip(self.old.parameters(), self.model.parameters(), strict=True):
            if old is not new:
                old.lerp_(new, 1 - self.config.old_decay)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["judgements"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.history = checkpoint["judgements"]

    def configure_optimizers(self) -> Any:
        return self.scheduled(self.model, self.config.optimizer, in_blocks)


def _twin(model: MMDiT) -> MMDiT:
    """A frozen copy, which shares what is frozen in the model already: under an adapter only the adapter is there twice."""
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    return copy.deepcopy(model, shared).requires_grad_(False)
