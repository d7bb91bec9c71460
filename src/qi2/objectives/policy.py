"""Policy objectives for flow matching: advantages, the ratio objective and the forward-process objective (report section 4.2).

The report rolls out with classifier-free guidance and optimises the conditional branch alone. A ratio objective (Flow-GRPO, Liu et
al., 2025) then needs the old log-probability recomputed under the conditional branch, or its ratio starts far from one; the
forward-process objective (DiffusionNFT, Zheng et al., 2025) looks only at the clean samples and needs no correction.
Rewards and advantages are (P, G): P prompts, G samples each. Everything else is (B, ...) with times (B,).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from qi2.models import flow

TINY = 1e-4


def spread(rewards: Tensor) -> Tensor:
    """(P,) standard deviation inside each group; 0 where a reward does not apply (NaN)."""
    return rewards.std(dim=1, correction=0).nan_to_num(0.0)


def relative(rewards: Tensor, scale: str = "batch") -> Tensor:
    """(P, G) rewards above their group's mean, in units of the spread of the ``group`` or of the whole ``batch``.

    The batch's unit pools the groups that have a spread; a group without one, or one that the reward does not apply to, gives 0.
    """
    centred = (rewards - rewards.mean(dim=1, keepdim=True)).nan_to_num(0.0)
    inside = centred.square().mean(dim=1, keepdim=True)
    if scale == "batch":
        inside = inside.sum() / (inside > TINY**2).sum().clamp(min=1)
    return centred / (inside.sqrt() + TINY)


def advantages(rewards: Mapping[str, Tensor], weights: Mapping[str, float], scale: str = "group", limit: float = 2.0) -> Tensor:
    """GDPO: each reward normalised in units of ``scale``, weighted, summed, and the sum normalised over the batch; (P, G) within +-limit.

    Normalising before the sum makes rewards of different ranges comparable, so that a weight means what it says. After a weighted sum of raw
    rewards, as Flow-GRPO has it, the reward with the widest range decides.
    """
    total = torch.stack([weights[name] * relative(values, scale) for name, values in rewards.items()]).sum(dim=0)
    return relative(total, "batch").clamp(-limit, limit)


def nft_loss(new: Tensor, old: Tensor, x_t: Tensor, x0: Tensor, t: Tensor, optimality: Tensor, beta: float = 1.0) -> Tensor:
    """DiffusionNFT on the x0 predictions of implicit positive and negative policies; a scalar.

    new, old, x_t, x0 (B, C, h, w): velocities of the trained and of the old policy at x_t, a sample x0 noised to t. optimality (B,)
    in [0, 1]: 0.5 is an average sample. Each error is divided by its own mean absolute size (x0 weighting), without gradient.
    """
    positive = flow.to_x0(x_t, (1 - beta) * old + beta * new, t)
    negative = flow.to_x0(x_t, (1 + beta) * old - beta * new, t)
    return (optimality * _weighted_error(positive, x0) + (1 - optimality) * _weighted_error(negative, x0)).mean() / beta


def _weighted_error(prediction: Tensor, x0: Tensor) -> Tensor:
    error = (prediction - x0).flatten(1)
    return error.square().mean(dim=1) / error.detach().abs().mean(dim=1).clamp(min=1e-5)


def divergence(velocity: Tensor, reference: Tensor) -> Tensor:
    """(B,) mean squared difference of velocities: what DiffusionNFT penalises as KL to a reference; a path's KL is an integral of it over time."""
    return (velocity - reference).square().flatten(1).mean(dim=1)


def sde_step(x: Tensor, velocity: Tensor, now: float, after: float, noise_level: float, start: float) -> tuple[Tensor, float]:
    """Mean (B, C, h, w) and standard deviation of the Flow-SDE step from time ``now`` to ``after`` < now; at noise_level 0 the Euler step.

    The step keeps the marginals of the ODE in the limit of many steps. ``start``: the time used in the noise's denominator at
    now = 1, where it would vanish (Flow-GRPO takes the schedule's second time).
    """
    rate = noise_level * math.sqrt(now / (1 - (start if now >= 1 else now)))
    dt = after - now
    pull = rate**2 / (2 * now) * dt
    return x * (1 + pull) + velocity * (dt + pull * (1 - now)), rate * math.sqrt(-dt)


def log_probability(x: Tensor, mean: Tensor, std: float) -> Tensor:
    """(B,) Gaussian log-density of x (B, C, h, w), averaged over its values as Flow-GRPO does."""
    density = -(x.detach() - mean).square() / (2 * std**2) - math.log(std) - 0.5 * math.log(2 * math.pi)
    return density.flatten(1).mean(dim=1)


def gaussian_kl(mean: Tensor, reference: Tensor, std: float) -> Tensor:
    """(B,) KL per value of one step's Gaussian to the reference's, both of deviation ``std`` (Flow-GRPO's paper; its code leaves out the step's length)."""
    return (mean - reference).square().flatten(1).mean(dim=1) / (2 * std**2)


def log_ratio(x: Tensor, mean: Tensor, old_mean: Tensor, std: float, guard: bool = False) -> Tensor:
    """(B,) log of new over old probability of a step to x; exactly 0 where the means are equal.

    With x = old_mean + std eps and d = mean - old_mean it is mean(eps d) / std - mean(d^2) / (2 std^2). The second term shifts every ratio below one,
    so that the clip lets good samples go on for longer than bad ones, and the division by std makes late steps leave the clip's range first.
    ``guard`` (GRPO-Guard, Wang et al., 2025) takes the shift away and multiplies by std: mean(eps d), alike in all steps.
    """
    plain = log_probability(x, mean, std) - log_probability(x, old_mean, std)
    return std * (plain + gaussian_kl(mean, old_mean, std)) if guard else plain


def ratio_loss(ratio_log: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's clipped objective over (B,) samples; a scalar. On-policy every ratio is exactly one."""
    ratio = ratio_log.exp()
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)).mean()
