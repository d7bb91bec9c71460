"""How far scores agree with labelled pairs: the one statement of accuracy and calibration error. Torch-free, so that a report needs no torch.

Labels are 1 (the first of a pair is preferred), 0 (a tie) and -1; a difference of scores above 0 prefers the first.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10  # of the calibration error, of equal width over confidences of 0.5 to 1
Values = NDArray[Any]


def hits(difference: Values, labels: Values) -> NDArray[np.float64]:
    """1 where the preferred one scores higher, 0.5 where neither does, else 0 (N,); what it gives for ties means nothing."""
    ahead = difference * labels
    return np.asarray((ahead > 0) + 0.5 * (ahead == 0), dtype=np.float64)


def likeliest(first: Values, tie: Values, second: Values) -> NDArray[np.int64]:
    """The label of the most probable outcome (N,), of probabilities or their logarithms."""
    return 1 - np.stack([first, tie, second]).argmax(0)


def bins_of(confidence: Values, bins: int = BINS) -> NDArray[np.int64]:
    """The bin of every confidence in the preferred side, 0.5..1, given that it is no tie."""
    return np.clip(((confidence - 0.5) * 2 * bins).astype(np.int64), 0, bins - 1)


def calibration_error(confidence: Values, right: Values, bins: int = BINS) -> float:
    """Expected calibration error, 0..0.5: in each bin the gap between mean confidence and the share that was right, weighted by the bins' sizes."""
    gaps = np.bincount(bins_of(confidence, bins), (confidence - right).astype(np.float64), bins)
    return float(np.abs(gaps).sum() / max(len(confidence), 1))
