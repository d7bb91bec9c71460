"""Figures of reward models on judged pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from qi2.evaluation.bootstrap import Bootstrap
from qi2.evaluation.reward_figures import Judged, reward_figures
from qi2.objectives.calibration import calibration_error, reliability
from qi2.rewards.measure import write_judged


def rows(n: int, share_right: float, mistakes: float, confidence: float = 0.9) -> list[dict[str, str | float]]:
    """Pairs of n / 2 prompts whose better picture is ahead in a share; labels are wrong in another."""
    draw = np.random.default_rng(0)
    made: list[dict[str, str | float]] = []
    for i in range(n):
        ahead = 1.0 if draw.random() < share_right else -1.0
        first = confidence if ahead > 0 else 1 - confidence
        label = -1 if draw.random() < mistakes else 1
        made.append({"prompt": f"p{i // 2}", "label": label, "truth": 1, "difference": ahead, "first": first, "tie": 0.0, "second": 1 - first})
    return made


def test_figures_by_hand() -> None:
    tied: dict[str, str | float] = {"prompt": "t", "label": 0, "truth": 0, "difference": 1.0, "first": 0.2, "tie": 0.6, "second": 0.2}
    found = reward_figures(Judged.of([*rows(1, 1.0, 0.0), *rows(1, 1.0, 1.0), tied, tied | {"difference": -2.0, "first": 0.8, "tie": 0.1}]), Bootstrap(0))
    assert found["accuracy"].value == 0.5
    assert found["ceiling"].value == 0.5
    assert found["of_ceiling"].value == 1.0
    assert found["accuracy_truth"].value == 1.0
    assert found["accuracy_with_ties"].value == 0.5
    assert found["calibration_error"].value == pytest.approx(0.4)


def test_intervals_are_of_prompts_and_hold_the_truth() -> None:
    found = reward_figures(Judged.of(rows(2000, 0.95, 0.1)), Bootstrap(0))
    assert found["accuracy"].n == 1000
    assert found["accuracy"].low < 0.95 * 0.9 + 0.05 * 0.1 < found["accuracy"].high
    assert found["ceiling"].low < 0.9 < found["ceiling"].high
    assert found["accuracy_truth"].low < 0.95 < found["accuracy_truth"].high
    assert found["of_ceiling"].high - found["of_ceiling"].low < found["accuracy"].high - found["accuracy"].low
    assert found["calibration_error"].value < 0.08


def test_unknown_truths_give_no_ceiling() -> None:
    found = reward_figures(Judged.of([row | {"truth": float("nan")} for row in rows(50, 0.9, 0.1)]), Bootstrap(0))
    assert set(found) == {"accuracy", "accuracy_with_ties", "calibration_error"}


def test_a_table_without_truths_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = [row | {"truth": float("nan")} for row in rows(50, 0.9, 0.1)]
    write_judged(tmp_path / "judged.csv", made)
    assert reward_figures(Judged.read(tmp_path / "judged.csv"), Bootstrap(0)) == reward_figures(Judged.of(made), Bootstrap(0))


def test_the_calibration_error_is_that_of_training() -> None:
    draw = np.random.default_rng(1)
    first, tie = draw.uniform(0.02, 0.8, 400), 0.1
    second = 1 - tie - first
    label = draw.choice([-1, 0, 1], 400)
    made = [
        {"prompt": f"p{i}", "label": int(label[i]), "truth": 1, "difference": float(np.log(first[i] / second[i])), "first": float(first[i]), "tie": tie}
        | {"second": float(second[i])}
        for i in range(400)
    ]
    outcomes = (torch.tensor(first).log(), torch.full((400,), tie).log(), torch.tensor(second).log())
    expected = calibration_error(*reliability(outcomes, torch.tensor(label)))
    assert reward_figures(Judged.of(made), Bootstrap(0))["calibration_error"].value == pytest.approx(expected, abs=1e-6)
