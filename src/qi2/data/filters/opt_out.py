"""Opt-out: pictures whose owner does not want them trained on, as their source says. Not in the report; never a question of thresholds."""

from typing import TYPE_CHECKING

import numpy as np

from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import EVERY, Filter

if TYPE_CHECKING:
    import pandas as pd


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    return table["opt_out"].to_numpy(dtype=bool)


FILTER = Filter("opt_out", EVERY, (), _rejects)
