"""Rollouts: groups of samples for the same prompt, drawn with guidance and scored."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from qi2.core import rng
from qi2.models.config import SamplerConfig
from qi2.models.mmdit import MMDiT
from qi2.models.pixels import to_images
from qi2.models.sampler import Guided, sample, times
from qi2.models.sequence import Condition, EncodedPrompt, collate
from qi2.models.vae import VAE, over_white
from qi2.objectives.policy import sde_step
from qi2.rlhf.config import RolloutConfig
from qi2.rlhf.prompts import EDIT, Prompt
from qi2.rlhf.scoring import RolloutSample, Scorer


@dataclass
class Transition:
    """One stochastic step of all samples: states (B, 64, h, w) at time ``now`` and ``after``, and the level of its noise."""

    now: float
    after: float
    x: Tensor
    x_next: Tensor


@dataclass
class Rollout:
    """P prompts with G samples each: latents x0 (P, G, 64, h, w), rewards by name and advantages, both (P, G)."""

    prompts: list[Prompt]
    x0: Tensor
    transitions: list[Transition]
    rewards: dict[str, Tensor] = field(default_factory=dict)
    advantages: Tensor = field(default_factory=lambda: torch.zeros(0))

    def condition(self) -> Condition:
        """One condition per prompt."""
        return collate([p.encoded for p in self.prompts], [p.latents for p in self.prompts])

    def select(self, groups: Tensor) -> "Rollout":
        """Only the groups whose entry in ``groups`` (P,) is true."""
        each = groups.repeat_interleave(self.x0.shape[1])
        return replace(
            self,
            prompts=[p for p, keep in zip(self.prompts, groups.tolist(), strict=True) if keep],
            x0=self.x0[groups],
            transitions=[replace(step, x=step.x[each], x_next=step.x_next[each]) for step in self.transitions],
            rewards={name: values[groups] for name, values in self.rewards.items()},
            advantages=self.advantages[groups],
        )


class Sampler:
    """Draws and scores rollouts. Holds what is frozen: the VAE, the empty prompt, the scorers."""

    def __init__(self, config: RolloutConfig, size: int, sampler: SamplerConfig, vae: VAE, empty: EncodedPrompt, scorers: Mapping[str, Scorer]) -> None:
        self.config, self.sampler, self.vae, self.empty, self.scorers = config, sampler, vae, empty, scorers
        self.schedule = sampler.schedule(config.steps)
        self.shape = (vae.cfg.latent_channels, size // vae.cfg.factor, size // vae.cfg.factor)
        self.times = times(self.schedule, [self.shape[1] * self.shape[2]]).tolist()
        self.second_time = self.times[1]

    @torch.no_grad()
    def __call__(self, model: MMDiT, prompts: list[Prompt], seed: int, step: int, stochastic: bool) -> Rollout:
        """One group per prompt. T2I and TI2I are sampled apart, because their guidance differs."""
        draw = rng.generator(seed, "rlhf/rollout", step)
        t2i, edits = ([p for p in prompts if p.kind.startswith(EDIT) == wanted] for wanted in (False, True))
        parts = [(t2i, self.config.guidance), (edits, self.config.edit_guidance)]
        rollout = _join([self._sample(model, group, guidance, draw, stochastic) for group, guidance in parts if group])
        rollout.rewards = self.score(rollout)
        return rollout

    def _sample(self, model: MMDiT, prompts: list[Prompt], guidance: float, draw: torch.Generator, stochastic: bool) -> Rollout:
        n = len(prompts) * self.config.group
        device = model.proj_out.weight.device
        noise = torch.randn(n, *self.shape, generator=draw).to(device)
        rollout = Rollout(prompts, noise, [])
        prefix = model.encode_condition(rollout.condition()).repeat(self.config.group)
        unconditional = None
        if guidance != 1:
            unconditional = model.encode_condition(collate([self.empty], [[]])).repeat(n)
        velocity = Guided(model, prefix, unconditional, guidance, self.sampler.guidance_rescale, self.sampler.guidance_interval)
        if stochastic:
            x0, rollout.transitions = self._sample_sde(velocity, noise, draw)
        else:
            x0 = sample(velocity, noise, self.schedule)
        rollout.x0 = x0.view(len(prompts), self.config.group, *self.shape)
        return rollout

    def _sample_sde(self, velocity: Guided, x: Tensor, draw: torch.Generator) -> tuple[Tensor, list[Transition]]:
        """The first ``sde_steps`` are Flow-SDE steps, the rest Euler steps; never the last, whose Gaussian is too sharp."""
        transitions = []
        for i, (now, after) in enumerate(zip(self.times[:-1], self.times[1:], strict=True)):
            v = velocity(x, torch.tensor([now], device=x.device))
            if i < min(self.config.sde_steps, self.config.steps - 1):
                mean, std = sde_step(x, v, now, after, self.config.noise_level, self.second_time)
                step = Transition(now, after, x, mean + std * torch.randn(x.shape, generator=draw).to(x.device))
                transitions.append(step)
                x = step.x_next
            else:
                x = x + (after - now) * v
        return x, transitions

    def score(self, rollout: Rollout) -> dict[str, Tensor]:
        """Every scorer's rewards (P, G)."""
        images = to_images(over_white(self.vae.decode(rollout.x0.flatten(0, 1))))
        prompts = [prompt for prompt in rollout.prompts for _ in range(rollout.x0.shape[1])]
        samples = [RolloutSample(prompt, image) for prompt, image in zip(prompts, images, strict=True)]
        return {name: scorer(samples).float().cpu().view(len(rollout.prompts), -1) for name, scorer in self.scorers.items()}


def _join(rollouts: list[Rollout]) -> Rollout:
    """One rollout after another; their transitions belong to the same times."""
    steps = [
        replace(same[0], x=torch.cat([s.x for s in same]), x_next=torch.cat([s.x_next for s in same]))
        for same in zip(*(r.transitions for r in rollouts), strict=True)
    ]
    return Rollout([p for r in rollouts for p in r.prompts], torch.cat([r.x0 for r in rollouts]), steps)
