"""Who says whether a probe's picture is right: the world's exact checker where the truth is known, else a reward model against a calibrated threshold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world.checker import check, check_edit
from qi2.data.world.edits import Edit
from qi2.data.world.scene import Scene
from qi2.flywheel.attribution.cases import Case

Score = Callable[[Sequence[tuple[str, Sequence[Image.Image], Image.Image]]], Sequence[float]]
"""Scores of (prompt, references, picture), higher is better; NaN where the reward does not apply."""


@dataclass(frozen=True)
class Threshold:
    """From ``value`` on a picture counts as right; ``error``: mean of both error rates on the pairs that it was calibrated on."""

    value: float
    error: float


def calibrate(matching: Sequence[float], mismatching: Sequence[float]) -> Threshold:
    """The threshold with the least mean of missed matches and passed mismatches. Raises QI2Error where one side has no score."""
    good, bad = (np.sort([value for value in values if value == value]) for values in (matching, mismatching))
    if not len(good) or not len(bad):
        raise QI2Error("a reward's threshold needs scores of matching and of mismatching pairs; the reward applies to none of them, choose another")
    values = np.unique(np.concatenate([good, bad]))
    options = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2])
    errors = [(np.searchsorted(good, option, "left") / len(good) + 1 - np.searchsorted(bad, option, "left") / len(bad)) / 2 for option in options]
    best = int(np.argmin(errors))
    return Threshold(float(options[best]), float(errors[best]))


class Judged:
    """Judges every picture by the best that is known of its case; ``score``, and ``thresholds`` by task, are for cases without a truth."""

    def __init__(self, score: Score | None = None, thresholds: Mapping[str, Threshold] | None = None) -> None:
        self.score, self.thresholds = score, dict(thresholds or {})

    def __call__(self, shown: Sequence[tuple[Case, Image.Image]]) -> list[bool]:
        """Raises QI2Error where a case has no truth and no reward was given, or none with a threshold for its task."""
        unknown = [i for i, (case, _) in enumerate(shown) if case.truth is None]
        if unknown and (self.score is None or not {shown[i][0].task for i in unknown} <= self.thresholds.keys()):
            raise QI2Error(f"{len(unknown)} pictures of failures whose truth is not known: train the rewards (make reproduce STAGE=rewards), which then judge")
        verdicts = {i: exact(case, picture) for i, (case, picture) in enumerate(shown) if case.truth is not None}
        if unknown and self.score is not None:
            scores = self.score([(shown[i][0].prompt, shown[i][0].references, shown[i][1]) for i in unknown])
            verdicts |= {i: bool(value >= self.thresholds[shown[i][0].task].value) for i, value in zip(unknown, scores, strict=True)}
        return [verdicts[i] for i in range(len(shown))]


def exact(case: Case, picture: Image.Image) -> bool:
    """Whether a picture shows all that was asked for; of an edit, whether it was done."""
    if isinstance(case.truth, Scene):
        return bool(check(picture, case.truth)["all"])
    assert isinstance(case.truth, Edit)
    source = case.references[0] if case.references[0].size == picture.size else case.references[0].resize(picture.size)
    return bool(check_edit(picture, case.truth, source)["done"])
