"""What a reward model is worth: accuracy and calibration on judgements that it has never seen, and the fit of its scale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from qi2.core import rng
from qi2.objectives.calibration import Calibration, calibration_error, fit_calibration, outcome_hits, pairwise_accuracy, reliability
from qi2.rewards.data import Pool
from qi2.rewards.heads import RewardModel, Scores

BATCH = 128


@dataclass(frozen=True)
class Compared:
    """N compared pairs, all (N,): raw differences of their scores with deviations (where the model has them), labels, truths (NaN: unknown), groups."""

    difference: Tensor
    deviation: Tensor | None
    labels: Tensor
    truths: Tensor
    groups: list[str]


@torch.inference_mode()
def score_pool(model: RewardModel, pool: Pool) -> Scores:
    """Raw scores (N, R) of every picture."""
    device = next(model.head.parameters()).device
    parts = []
    for start in range(0, len(pool), BATCH):
        inputs = pool.batch(range(start, min(start + BATCH, len(pool))))
        parts.append(model(**{name: value.to(device) for name, value in inputs.items()}))
    means = torch.cat([part.mean.float().cpu() for part in parts])
    deviations = [part.deviation.float().cpu() for part in parts if part.deviation is not None]
    return Scores(means, torch.cat(deviations) if deviations else None)


def compare(scores: Scores, pool: Pool) -> Compared:
    """Pairs with their labels. Single pictures are compared each with the next one, of its own prompt where there is one."""
    if pool.paired:
        return Compared(*scores.differences(), pool.labels, pool.truths, pool.groups)
    order = sorted(range(len(pool)), key=lambda i: (pool.groups[i], rng.key(0, "rewards/partner", i)))
    other = torch.empty(len(pool), dtype=torch.long)
    other[order] = torch.tensor(order[1:] + order[:1])
    both = [None if part is None else torch.cat([part, part[other]], 1) for part in (scores.mean, scores.deviation)]
    assert both[0] is not None
    labels = (pool.labels - pool.labels[other]).sign()
    return Compared(*Scores(both[0], both[1]).differences(), labels, torch.full_like(labels, torch.nan), pool.groups)


def calibrate(model: RewardModel, pool: Pool) -> None:
    """Put mean, temperature and tie, found on a pool that was not trained on, into the model's config."""
    scores = score_pool(model, pool)
    pairs = compare(scores, pool)
    found = fit_calibration(pairs.difference, pairs.labels, pairs.deviation)
    model.config = replace(model.config, mean=float(scores.mean.mean()), **asdict(found))


def figures(model: RewardModel, pairs: Compared) -> dict[str, float]:
    """Flat metrics of a reward on pairs that it was neither trained nor calibrated on; ceilings only where the truth is known.

    ``accuracy`` is the share of decided pairs whose preferred picture scores higher, ``ceiling`` what the truth itself reaches on these
    labels, ``accuracy_truth`` the accuracy against the truth. ``calibration_error`` has `agreement.BINS` bins; ``_raw`` is that of the
    scores as they were trained, ``_scale`` that of scores on the common scale read as logits.
    """
    outcomes = model.calibration.outcomes(pairs.difference, pairs.deviation)
    plain = {"raw": Calibration(), "scale": Calibration(model.config.temperature)}
    known = ~pairs.truths.isnan()
    found = {
        "accuracy": pairwise_accuracy(pairs.difference, pairs.labels),
        "n": float((pairs.labels != 0).sum()),
        "calibration_error": calibration_error(*reliability(outcomes, pairs.labels)),
        **{
            f"calibration_error_{key}": calibration_error(*reliability(link.outcomes(pairs.difference, pairs.deviation), pairs.labels))
            for key, link in plain.items()
        },
        "ties": float((pairs.labels == 0).float().mean()),
        "ties_expected": float(outcomes[1].exp().mean()),
        "accuracy_with_ties": float(outcome_hits(outcomes, pairs.labels).mean()),
    }
    if bool(known.any()):
        found["ceiling"] = pairwise_accuracy(pairs.truths[known], pairs.labels[known])
        found["of_ceiling"] = found["accuracy"] / found["ceiling"] if found["ceiling"] else math.nan
        found["accuracy_truth"] = pairwise_accuracy(pairs.difference[known], pairs.truths[known])
    return {f"reward/{model.config.dimension}/{key}": value for key, value in found.items()}


def judged_rows(model: RewardModel, pairs: Compared) -> list[dict[str, str | float]]:
    """Every pair with its prompt, label, truth, calibrated difference, and the probabilities that the first, neither or the second is preferred."""
    outcomes = [part.exp().tolist() for part in model.calibration.outcomes(pairs.difference, pairs.deviation)]
    columns = (pairs.labels.tolist(), pairs.truths.tolist(), (pairs.difference / model.config.temperature).tolist(), *outcomes)
    names = ("label", "truth", "difference", "first", "tie", "second")
    return [{"prompt": prompt, **dict(zip(names, values, strict=True))} for prompt, values in zip(pairs.groups, zip(*columns, strict=True), strict=True)]


def write_judged(path: Path, rows: Sequence[Mapping[str, str | float]]) -> None:
    """As a table, numbers with six digits."""
    pd.DataFrame(rows).to_csv(path, index=False, float_format="%.6g")
