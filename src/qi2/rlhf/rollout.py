"""Rollouts: groups of samples for the same prompt, drawn with guidance and scored."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from PIL.Image import Image
from torch import Tensor

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.models.config import SamplerConfig
from qi2.models.mmdit import MMDiT
from qi2.models.pixels import to_images
from qi2.models.sampler import Guided, sample, times
from qi2.models.sequence import Condition, EncodedPrompt, Prefix, collate
from qi2.models.vae import VAE, over_white
from qi2.objectives.policy import sde_step
from qi2.rlhf.config import RolloutConfig
from qi2.rlhf.prompts import EDIT, Prompt
from qi2.rlhf.scoring import RolloutSample, Scorer


@dataclass
class Transition:
    """One stochastic step of all samples from x at time ``now`` to x_next at ``after``, both (B, 64, h, w), by a Gaussian of deviation ``std``."""

    now: float
    after: float
    std: float
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

    def parts(self, prompts: int) -> "list[Rollout]":
        """So many groups at a time; 0: all at once."""
        numbers = torch.arange(len(self.prompts))
        return [self.select(numbers // prompts == i) for i in range(-(-len(numbers) // prompts))] if prompts else [self]


class Sampler:
    """Draws and scores rollouts. Holds what is frozen: the VAE, the empty prompt, the scorers."""

    def __init__(self, config: RolloutConfig, size: int, sampler: SamplerConfig, vae: VAE, empty: EncodedPrompt, scorers: Mapping[str, Scorer]) -> None:
        self.config, self.sampler, self.vae, self.empty, self.scorers = config, sampler, vae, empty, scorers
        self.schedule = sampler.schedule(config.steps)
        self.shape = (vae.cfg.latent_channels, size // vae.cfg.factor, size // vae.cfg.factor)
        self.times = times(self.schedule, [self.shape[1] * self.shape[2]]).tolist()
        self.second_time = self.times[1]

    def __call__(self, model: MMDiT, prompts: list[Prompt], seed: int, step: int, stochastic: bool) -> Rollout:
        """One scored group per prompt, T2I first."""
        rollout = self.draw(model, prompts, seed, step, stochastic)
        rollout.rewards = self.score(rollout)
        return rollout

    @torch.no_grad()
    def draw(self, model: MMDiT, prompts: list[Prompt], seed: int, step: int, stochastic: bool = False) -> Rollout:
        """The same without scores. T2I and TI2I are sampled apart, because their guidance differs; a prompt's group shares its cached condition."""
        noise = rng.generator(seed, "rlhf/rollout", step)
        window = self.window(seed, step) if stochastic else range(0)
        parts = []
        for edits, guidance in ((False, self.config.guidance), (True, self.config.edit_guidance)):
            own = [p for p in prompts if p.kind.startswith(EDIT) == edits]
            at_once = self.config.batch or max(len(own), 1)
            parts += [self._sample(model, own[i : i + at_once], guidance, noise, window) for i in range(0, len(own), at_once)]
        return _join(parts)

    def window(self, seed: int, step: int) -> range:
        """The stochastic steps of a rollout: ``sde_steps`` in a row, from a start drawn inside ``sde_range``; never the last, whose Gaussian is too sharp.

        Raises QI2Error where no step is left.
        """
        low, high = self.config.sde_range[0], min(self.config.sde_range[1], self.config.steps - 1)
        count = min(self.config.sde_steps, high - low)
        if count < 1:
            raise QI2Error(f"rlhf.rollout: no stochastic step among steps {low} to {high} of {self.config.steps}; widen sde_range, raise steps or sde_steps")
        start = low + int(torch.randint(high - low - count + 1, (1,), generator=rng.generator(seed, "rlhf/window", step)))
        return range(start, start + count)

    def _sample(self, model: MMDiT, prompts: list[Prompt], guidance: float, draw: torch.Generator, window: range) -> Rollout:
        n = len(prompts) * self.config.group
        device = model.proj_out.weight.device
        noise = torch.randn(n, *self.shape, generator=draw).to(device)
        rollout = Rollout(prompts, noise, [])
        prefix = model.encode_condition(rollout.condition()).repeat(self.config.group)
        unconditional = None
        if guidance != 1:
            unconditional = model.encode_condition(collate([self.empty], [[]])).repeat(n)
        velocity = Guided(model, prefix, unconditional, guidance, self.sampler.guidance_rescale, self.sampler.guidance_interval)
        if window:
            x0, rollout.transitions = self._sample_sde(velocity, noise, draw, window)
        else:
            x0 = sample(velocity, noise, self.schedule)
        rollout.x0 = x0.view(len(prompts), self.config.group, *self.shape)
        return rollout

    def _sample_sde(self, velocity: Guided, x: Tensor, draw: torch.Generator, window: range) -> tuple[Tensor, list[Transition]]:
        """Flow-SDE steps inside the window, Euler steps outside, which is a Flow-SDE step without noise."""
        transitions = []
        for i, (now, after) in enumerate(zip(self.times[:-1], self.times[1:], strict=True)):
            noise_level = self.config.noise_level if i in window else 0.0
            mean, std = sde_step(x, velocity(x, torch.tensor([now], device=x.device)), now, after, noise_level, self.second_time)
            if i in window:
                x_next = mean + std * torch.randn(x.shape, generator=draw).to(x.device)
                transitions.append(Transition(now, after, std, x, x_next))
            x = transitions[-1].x_next if i in window else mean
        return x, transitions

    def mean(self, model: MMDiT, prefix: Prefix, step: Transition) -> Tensor:
        """The mean of a transition's Gaussian under a model's conditional branch."""
        velocity = model(step.x, torch.full((len(step.x),), step.now, device=step.x.device), prefix)
        return sde_step(step.x, velocity, step.now, step.after, self.config.noise_level, self.second_time)[0]

    def score(self, rollout: Rollout) -> dict[str, Tensor]:
        """Every scorer's rewards (P, G) of the decoded pictures."""
        prompts = [prompt for prompt in rollout.prompts for _ in range(rollout.x0.shape[1])]
        samples = [RolloutSample(prompt, image) for prompt, image in zip(prompts, self.pictures(rollout), strict=True)]
        return {name: scorer(samples).float().cpu().view(len(rollout.prompts), -1) for name, scorer in self.scorers.items()}

    @torch.no_grad()
    def pictures(self, rollout: Rollout) -> list[Image]:
        """All samples decoded, group after group."""
        self.vae.to(rollout.x0.device)
        at_once = (self.config.batch or len(rollout.prompts)) * rollout.x0.shape[1]
        return [image for part in rollout.x0.flatten(0, 1).split(at_once) for image in to_images(over_white(self.vae.decode(part)))]


def _join(rollouts: list[Rollout]) -> Rollout:
    """One rollout after another; their transitions belong to the same times."""
    steps = [
        replace(same[0], x=torch.cat([s.x for s in same]), x_next=torch.cat([s.x_next for s in same]))
        for same in zip(*(r.transitions for r in rollouts), strict=True)
    ]
    return Rollout([p for r in rollouts for p in r.prompts], torch.cat([r.x0 for r in rollouts]), steps)
