"""Group-relative policy optimisation of the MMDiT: one step is one scored rollout and the updates that learn from it."""

import copy
from typing import Any

import torch
from torch import Tensor

from qi2.config import as_dict
from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.models import flow
from qi2.models.mmdit import MMDiT
from qi2.objectives.policy import advantages, log_probability, nft_loss, ratio_loss, sde_step, spread
from qi2.rlhf.config import OBJECTIVES, RLHFConfig
from qi2.rlhf.prompts import PromptPool
from qi2.rlhf.rollout import Rollout, Sampler
from qi2.training.data_plan import PlanSettings
from qi2.training.encoded import EncodedSet
from qi2.training.manual import ManualModule
from qi2.training.mixture import Mixture, Part, add_noise, in_blocks, supervised_losses


class RLHFModule(ManualModule):
    """The trained policy, the old policy that rolls out, and the running spreads that steer prompts and reward weights.

    The rollout may use guidance; the objective sees the conditional branch alone (report section 4.2).
    """

    kind_spread: Tensor
    reward_spread: Tensor
    widest_spread: Tensor

    def __init__(self, model: MMDiT, data: EncodedSet, pool: PromptPool, sampler: Sampler, config: RLHFConfig, seed: int) -> None:
        super().__init__(config.steps)
        if config.objective not in OBJECTIVES:
            raise QI2Error(f"rlhf.objective {config.objective!r} is not known; choose one of {', '.join(OBJECTIVES)}")
        self.model, self.old = model, copy.deepcopy(model).requires_grad_(False)
        self.data, self.pool, self.sampler, self.config, self.seed = data, pool, sampler, config, seed
        settings = PlanSettings([config.size], [config.real_batch], config.ti2i_share)
        self.mixture = Mixture(data, config.stage, settings, seed, "rlhf/real")
        self.register_buffer("kind_spread", torch.ones(len(pool.kinds)))
        self.register_buffer("reward_spread", torch.zeros(len(sampler.scorers)))
        self.register_buffer("widest_spread", torch.zeros(len(sampler.scorers)))

    def facts(self) -> dict[str, Any]:
        return {"seed": self.seed, "rlhf": as_dict(self.config), "mmdit": as_dict(self.model.config)}

    def batch(self, step: int) -> list[Part]:
        """Real samples for every update of the step."""
        return [self.mixture.part(step * self.config.updates + update, self.config.dropout) for update in range(self.config.updates)]

    def training_step(self, batch: list[Part], _: int) -> None:
        rollout = None if self.config.objective == "supervised" else self.roll_out()
        draw = rng.generator(self.seed, "rlhf/update", self.steps_done)
        for part in batch:
            loss = self.supervised(part)
            if rollout is not None and rollout.prompts:
                loss = self.config.supervised * loss + self.policy_loss(rollout, draw)
            self.update(loss)
        self.advance()
        self.follow()

    def roll_out(self) -> Rollout:
        """Draw prompts, sample and score them with the old policy; only groups with a spread come back."""
        draw = rng.numpy_rng(self.seed, "rlhf/prompts", self.steps_done)
        floor = self.config.prompts.floor
        prompts = self.pool.draw(draw, self.config.rollout.prompts, floor + (1 - floor) * self.kind_spread.cpu().numpy())
        rollout = self.sampler(self.old, prompts, self.seed, self.steps_done, stochastic=self.config.objective == "grpo")
        weights = self.weights()
        rollout.advantages = advantages(rollout.rewards, weights, self.config.scale, self.config.limit)
        informative = rollout.advantages.abs().amax(dim=1) > 0
        self._learn_spreads(rollout)
        self.observe({"rlhf/informative": informative.float().mean()})
        return rollout.select(informative)

    def weights(self) -> dict[str, float]:
        """Reward weights now: a reward counts less as it tells the samples of a group less apart than it once did."""
        floor = self.config.reward_floor
        factors = floor + (1 - floor) * (self.reward_spread / self.widest_spread).nan_to_num(1.0)
        return {name: self.config.rewards[name] * float(f) for name, f in zip(self.sampler.scorers, factors, strict=True)}

    def _learn_spreads(self, rollout: Rollout) -> None:
        """Follow how far rewards and kinds still spread: a reward inside its groups, a kind by the size of its groups' advantages."""
        keep = self.config.ema
        for i, (name, values) in enumerate(rollout.rewards.items()):
            valid = ~values.isnan().any(dim=1)
            if valid.any():
                now = spread(values)[valid].mean()
                self.reward_spread[i] = self.reward_spread[i].lerp(now, 1 - keep) if self.widest_spread[i] else now
                self.widest_spread[i] = torch.maximum(self.widest_spread[i], self.reward_spread[i])
                self.observe({f"rlhf/reward/{name}": values[valid].mean()})
                self.observe({f"rlhf/spread/{name}": now})
                self.observe({f"rlhf/weight/{name}": self.weights()[name]})
        apart = spread(rollout.advantages).clamp(max=1)
        for i, kind in enumerate(self.pool.kinds):
            here = torch.tensor([prompt.kind == kind for prompt in rollout.prompts])
            if here.any():
                self.kind_spread[i].lerp_(apart[here].mean(), 1 - keep)
                first = next(iter(rollout.rewards.values()))[here]
                self.observe({f"rlhf/kind/{kind}": first.nanmean()})

    def supervised(self, part: Part) -> Tensor:
        """Flow matching on real samples: the anchor that keeps what rewards do not measure."""
        noised = add_noise(part, self.config.t_mean, self.config.t_std, self.seed, "rlhf/real_noise", self.device)
        loss = supervised_losses(self.model, self.data, part, noised).mean()
        self.observe({"rlhf/loss_supervised": loss.detach()})
        return loss

    def policy_loss(self, rollout: Rollout, draw: torch.Generator) -> Tensor:
        """The chosen objective over all samples of all groups, conditional branch only."""
        group = rollout.x0.shape[1]
        condition = rollout.condition()
        prefix = self.model.encode_condition(condition).repeat(group)
        with torch.no_grad():
            old_prefix = self.old.encode_condition(condition).repeat(group)
        loss = (self._forward_process if self.config.objective == "nft" else self._ratio)(rollout, prefix, old_prefix, draw)
        self.observe({"rlhf/loss_policy": loss.detach()})
        return loss

    def _forward_process(self, rollout: Rollout, prefix: Any, old_prefix: Any, draw: torch.Generator) -> Tensor:
        x0 = rollout.x0.flatten(0, 1)
        low, high = self.config.t_range
        t = (low + (high - low) * torch.rand(len(x0), generator=draw)).to(x0.device)
        x_t = flow.interpolate(x0, torch.randn(x0.shape, generator=draw).to(x0.device), t)
        with torch.no_grad():
            old = self.old(x_t, t, old_prefix)
        optimality = 0.5 + rollout.advantages.flatten().to(x0.device) / (2 * self.config.limit)
        return nft_loss(self.model(x_t, t, prefix), old, x_t, x0, t, optimality, self.config.beta)

    def _ratio(self, rollout: Rollout, prefix: Any, old_prefix: Any, draw: torch.Generator) -> Tensor:
        """The old log-probability is that of the old policy's conditional branch, so that the first update has ratio one."""
        advantage, clip = rollout.advantages.flatten().to(rollout.x0.device), self.config.clip_range
        noise = (self.config.rollout.noise_level, self.sampler.second_time)
        losses = []
        for step in rollout.transitions:
            t = torch.full((len(step.x),), step.now, device=step.x.device)
            with torch.no_grad():
                old = log_probability(step.x_next, *sde_step(step.x, self.old(step.x, t, old_prefix), step.now, step.after, *noise))
            new = log_probability(step.x_next, *sde_step(step.x, self.model(step.x, t, prefix), step.now, step.after, *noise))
            losses.append(ratio_loss(new, old, advantage, clip))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def follow(self) -> None:
        """Move the old policy towards the trained one."""
        for old, new in zip(self.old.parameters(), self.model.parameters(), strict=True):
            old.lerp_(new, 1 - self.config.old_decay)

    def configure_optimizers(self) -> Any:
        return self.scheduled(self.model, self.config.optimizer, in_blocks)
