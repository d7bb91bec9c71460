"""What moves while the policy learns: the weights of the rewards, and how often each kind of prompt is asked for.

The report (section 4.2) has both "dynamically adjusted" and gives no formula; these rules are ours. A reward's weight is its configured one times
1. *spread*: floor + (1 - floor) * s / s_max, s the running spread of the reward inside groups and s_max its widest so far. Normalisation
   blows every spread up to one; a reward that no longer tells samples apart would otherwise hand out its noise at full weight.
2. *balance*: a factor that begins at 1. At every judgement (the same prompts and noise, so that means compare) fall_k = (best_k - mean_k) / unit_k,
   best_k the best mean so far and unit_k the deviation over the pictures of the first judgement; each factor is multiplied by
   exp(rate * (fall_k - mean of all falls)) and held within 1 / limit and limit. Rewards that have fallen gain what one that ran away loses,
   and once all are at their best nothing moves.
A kind's share is its configured one times floor + (1 - floor) * the running spread of its groups' advantages: where all samples of a prompt are
equally good, asking again teaches nothing. Everything is in buffers, so that a resumed run goes on with the same numbers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from qi2.objectives.policy import spread


class RewardBalance(nn.Module):
    """Weights of the rewards (R), from their spreads inside groups and from their falls between judgements."""

    spread: Tensor
    widest: Tensor
    best: Tensor
    unit: Tensor
    factor: Tensor

    def __init__(self, base: Mapping[str, float], keep: float, floor: float, rate: float, limit: float) -> None:
        super().__init__()
        self.base, self.keep, self.floor, self.rate, self.limit = dict(base), keep, floor, rate, limit
        for name in ("spread", "widest", "unit"):
            self.register_buffer(name, torch.zeros(len(base)))
        self.register_buffer("best", torch.full((len(base),), -torch.inf))
        self.register_buffer("factor", torch.ones(len(base)))

    def weights(self) -> dict[str, float]:
        """The weights now, by name."""
        apart = self.floor + (1 - self.floor) * (self.spread / self.widest).nan_to_num(1.0)
        return {name: base * float(w) for (name, base), w in zip(self.base.items(), apart * self.factor, strict=True)}

    def see_rollout(self, rewards: Mapping[str, Tensor]) -> None:
        """Follow the spreads inside the groups (P, G) that a reward applies to."""
        for i, name in enumerate(self.base):
            valid = ~rewards[name].isnan().any(dim=1)
            if valid.any():
                now = spread(rewards[name])[valid].mean().to(self.spread)
                self.spread[i] = self.spread[i].lerp(now, 1 - self.keep) if self.widest[i] else now
                self.widest[i] = torch.maximum(self.widest[i], self.spread[i])

    def see_judgement(self, rewards: Mapping[str, Tensor]) -> None:
        """Move the factors by how far each reward (P, G) has fallen; one that applies nowhere stays as it is."""
        means = torch.stack([rewards[name].nanmean() for name in self.base]).to(self.best)
        if not self.unit.any():
            self.unit.copy_(torch.stack([_deviation(rewards[name]) for name in self.base]))
        self.best.copy_(torch.fmax(self.best, means))
        applies = means.isfinite() & (self.unit > 0)
        fall = ((self.best - means) / self.unit)[applies]
        moved = self.factor[applies] * (self.rate * (fall - fall.mean())).exp()
        self.factor[applies] = moved.clamp(1 / self.limit, self.limit)

    def composite(self, rewards: Mapping[str, Tensor]) -> float:
        """The mean reward in units of the first judgement, weighted as configured: a number whose meaning does not move with the weights."""
        parts = [base * float(rewards[name].nanmean()) / float(unit) for (name, base), unit in zip(self.base.items(), self.unit, strict=True) if unit > 0]
        return sum(part for part in parts if part == part) / sum(self.base.values())


class KindShares(nn.Module):
    """How often each kind of prompt is drawn: factors of the configured weights."""

    spread: Tensor

    def __init__(self, kinds: list[str], keep: float, floor: float) -> None:
        super().__init__()
        self.kinds, self.keep, self.floor = kinds, keep, floor
        self.register_buffer("spread", torch.ones(len(kinds)))

    def factors(self) -> Tensor:
        """One per kind, between the floor and 1."""
        return self.floor + (1 - self.floor) * self.spread.cpu()

    def see_rollout(self, kinds: list[str], advantages: Tensor) -> None:
        """Follow how far the advantages (P, G) of prompts of these kinds spread."""
        apart = spread(advantages).clamp(max=1).to(self.spread)
        for i, kind in enumerate(self.kinds):
            here = torch.tensor([other == kind for other in kinds], device=apart.device)
            if here.any():
                self.spread[i].lerp_(apart[here].mean(), 1 - self.keep)


def _deviation(rewards: Tensor) -> Tensor:
    """Over all pictures that a reward applies to; 0 where there is none."""
    valid = rewards[~rewards.isnan()]
    return valid.std(correction=0) if len(valid) else rewards.new_zeros(())
