"""Exemptions: filters that do not judge some groups of rows, as ``curate.exempt`` declares. Ours; the report names no exceptions.

Photo quality, entropy and CLIP were made for photographs: a drawn page is flat and sharp, and the input of a restoration is bad on purpose.
"""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qi2.core.errors import QI2Error
from qi2.data.curate_config import CurateConfig
from qi2.data.filters.base import REFERENCE
from qi2.data.filters.registry import FILTERS

if TYPE_CHECKING:
    import pandas as pd

GROUPS = ("synthetic", "world", "reference")
NEVER = ("opt_out", "broken", "resolution")  # an owner's word, a picture at all, and a bucket to train in are asked of every row


def check(config: CurateConfig) -> None:
    """Raise QI2Error, with the nearest valid name, for a group or filter of ``curate.exempt`` that there is not, or from which no row is exempt."""
    for group, names in config.exempt.items():
        _known("curate.exempt", group, GROUPS)
        for name in names:
            _known(f"curate.exempt.{group}", name, [item.name for item in FILTERS if item.name not in NEVER])


def synthetic(table: "pd.DataFrame", config: CurateConfig) -> np.ndarray:
    """Which rows count as the report's synthetic data."""
    return np.asarray(table["kind"].isin(config.synthetic_kinds) | table["source"].isin(config.synthetic_sources))


def spared(table: "pd.DataFrame", config: CurateConfig) -> dict[str, np.ndarray]:
    """{filter: bool (N), which rows it does not judge} for the filters that ``curate.exempt`` names; a row belongs to all groups that fit."""
    check(config)
    rows: dict[str, np.ndarray] = {}
    for group, names in config.exempt.items():
        members = _members(table, group, config)
        for name in names:
            rows[name] = rows.get(name, False) | members
    return rows


def told(table: "pd.DataFrame", config: CurateConfig) -> list[str]:
    """Per row the filters that do not judge it, in their order, with commas between them."""
    rows = spared(table, config)
    names = [item.name for item in FILTERS if item.name in rows]
    return [",".join(name for name in names if rows[name][row]) for row in range(len(table))]


def _members(table: "pd.DataFrame", group: str, config: CurateConfig) -> np.ndarray:
    if group == "synthetic":
        return synthetic(table, config)
    return np.asarray(table["role"] == REFERENCE if group == "reference" else table["source"] == "world")


def _known(key: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        raise QI2Error(f"{key} names {name!r}; did you mean {near}? It is one of {', '.join(names)}")
