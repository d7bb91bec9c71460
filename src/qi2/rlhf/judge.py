"""Guards against over-optimisation: a judge outside the reward, budgets of diversity and distance, the best policy kept.

A policy that is trained on learned rewards ends up finding their mistakes: the reward goes on rising while the truth falls (Gao et al., 2023).
Everything here looks at the same held-out prompts with the same noise, so that two judgements differ by the policy alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.models import flow
from qi2.models.mmdit import MMDiT
from qi2.objectives.policy import divergence
from qi2.rlhf.config import JudgeConfig
from qi2.rlhf.prompts import EDIT, Prompt
from qi2.rlhf.rollout import Rollout, Sampler
from qi2.training.average import Average

SHOWN = 10  # prompts in a picture


@dataclass
class Verdict:
    """Rewards by name and the judge's scores, all (P, G); how far apart samples of a prompt are, and how far the policy is from its start."""

    rewards: dict[str, Tensor]
    truth: Tensor
    diversity: float
    kl: float


class Judge:
    """Draws the fixed prompts and has them scored. ``sampler`` knows the rewards' scorers and, under ``scorer``, the judge."""

    def __init__(self, sampler: Sampler, prompts: Sequence[Prompt], scorer: str, seed: int) -> None:
        self.sampler, self.scorer, self.seed = sampler, scorer, rng.key(seed, "rlhf/judge")
        self.prompts = sorted(prompts, key=lambda prompt: prompt.kind.startswith(EDIT))  # as a rollout orders them

    @torch.no_grad()
    def __call__(self, model: MMDiT, reference: MMDiT) -> Verdict:
        """Raises QI2Error where the judge can score none of its prompts."""
        rollout = self.sampler(model, self.prompts, self.seed, 0, stochastic=False)
        rewards = dict(rollout.rewards)
        truth = rewards.pop(self.scorer)
        if truth.isnan().all():
            raise QI2Error(f"rlhf.judge.scorer {self.scorer!r} applies to none of the held-out prompts; name a scorer that does, or set rlhf.judge.every=0")
        return Verdict(rewards, truth, diversity(rollout.x0), self.distance(model, reference, rollout))

    def distance(self, model: MMDiT, reference: MMDiT, rollout: Rollout) -> float:
        """Mean squared difference of velocities on the way to one sample of each prompt, at evenly spaced times with fixed noise."""
        x0 = rollout.x0[:, 0]
        t = ((torch.arange(len(x0)) + 0.5) / len(x0)).to(x0.device)
        noise = torch.randn(x0.shape, generator=rng.generator(self.seed, "distance")).to(x0.device)
        condition, x_t = rollout.condition(), flow.interpolate(x0, noise, t)
        velocities = (network(x_t, t, network.encode_condition(condition)) for network in (model, reference))
        return float(divergence(*velocities).mean())

    @torch.no_grad()
    def picture(self, model: MMDiT, reference: MMDiT) -> Image.Image:
        """Some of the prompts, each as a column: the source of an edit, the start's sample, and today's with the same noise."""
        of_kind: dict[str, list[Prompt]] = {}
        for prompt in self.prompts:
            of_kind.setdefault(prompt.kind, []).append(prompt)
        chosen = [group[i] for i in range(SHOWN) for group in of_kind.values() if i < len(group)][:SHOWN]
        chosen = [prompt for prompt in self.prompts if any(prompt is other for other in chosen)]
        rows = []
        for network in (reference, model):
            rollout = self.sampler.draw(network, chosen, self.seed, 0)
            rows.append(self.sampler.pictures(rollout)[:: rollout.x0.shape[1]])
        return _sheet([[*prompt.sources[:1], before, now] for prompt, before, now in zip(chosen, *rows, strict=True)])


class EarlyStop(nn.Module):
    """The best policy so far and the limits that end a run. Its state is part of a checkpoint."""

    best: Tensor
    best_step: Tensor
    first_diversity: Tensor

    def __init__(self, config: JudgeConfig, network: MMDiT, prompts: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("best", torch.full((prompts, config.group), torch.nan))
        self.register_buffer("best_step", torch.tensor(-1))
        self.register_buffer("first_diversity", torch.tensor(0.0))
        self.policy = Average(network, 0.0)  # of decay 0: a copy

    def __call__(self, verdict: Verdict, network: MMDiT, step: int) -> str:
        """Keep the policy if it is the best so far within the budgets; why the run should end, or nothing."""
        truth = verdict.truth.to(self.best)
        if self.best_step < 0:
            self.first_diversity.fill_(verdict.diversity)
        beyond = self._beyond(verdict)
        if self.best_step < 0 or (not beyond and truth.nanmean() >= self.best.nanmean()):
            self.best.copy_(truth)
            self.best_step.fill_(step)
            self.policy.update(network, first=True)
        return beyond or self._fallen(truth)

    def _fallen(self, truth: Tensor) -> str:
        """Whether the judge is below its best by more than chance; the same prompts and noise, paired over prompts."""
        each = (truth - self.best).nanmean(dim=1)
        each = each[each.isfinite()]
        mean, error = float(each.mean()), float(each.std(correction=0)) / max(len(each), 1) ** 0.5
        if not self.config.fall or mean >= -self.config.fall * error:
            return ""
        fell = f"from {float(self.best.nanmean()):.3f} at step {int(self.best_step)} to {float(truth.nanmean()):.3f}"
        return f"the judge {self.config.scorer} fell {fell}, more than {self.config.fall:g} standard errors (rlhf.judge.fall)"

    def _beyond(self, verdict: Verdict) -> str:
        """Whether a budget is used up; such a policy is never the best."""
        left = verdict.diversity / max(float(self.first_diversity), 1e-12)
        if self.config.diversity and left < self.config.diversity:
            return f"samples of a prompt are {left:.2f} times as far apart as at the start (rlhf.judge.diversity {self.config.diversity:g})"
        if self.config.kl and verdict.kl > self.config.kl:
            return f"the policy is {verdict.kl:.3g} from its start (rlhf.judge.kl {self.config.kl:g})"
        return ""

    def give(self, network: MMDiT) -> int:
        """Put the best policy into the network; returns its step."""
        self.policy.give(network)
        return int(self.best_step)


def diversity(x0: Tensor) -> float:
    """Mean over groups of the root mean square distance of two samples of one prompt, from latents (P, G, C, h, w); 0 where G is 1."""
    flat = x0.flatten(2)
    count = flat.shape[1]
    distances = torch.cdist(flat, flat).sum(dim=(1, 2)) / max(count * (count - 1), 1)
    return float((distances / flat.shape[2] ** 0.5).mean())


def _sheet(columns: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Columns side by side, each aligned at the bottom."""
    side, rows = columns[0][-1].width, max(len(column) for column in columns)
    sheet = Image.new("RGB", (side * len(columns), side * rows), "white")
    for x, column in enumerate(columns):
        for y, image in enumerate(column, rows - len(column)):
            sheet.paste(image.convert("RGB").resize((side, side)), (x * side, y * side))
    return sheet
