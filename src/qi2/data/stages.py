"""Thresholds applied to stored scores, stage by stage, as in the report's Figure 6: what enters, what leaves, and why.

Stage k receives what stage k-1 kept and the rows that it newly admits (edit pairs at 2, synthetic rows at 3); so a row that
was rejected once stays out. The first filter in the report's order that refuses a row is its reason. Held-out rows are candidates of no
stage; only copies of what earlier data trained on are rejected among them.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.core.errors import QI2Error
from qi2.core.rng import key
from qi2.data import exempt
from qi2.data.curate_config import CurateConfig, StageThresholds, thresholds
from qi2.data.filters import near
from qi2.data.filters.base import IMAGE, PAIR, REFERENCE, Filter
from qi2.data.filters.registry import FILTERS

if TYPE_CHECKING:
    import pandas as pd

HELDOUT, NOT_ADMITTED = "heldout", "not_admitted"  # not candidates of a stage
BAD_REFERENCE, UNUSED, BALANCE = "reference", "unused_reference", "balance"


def roles(rows: "pd.DataFrame") -> np.ndarray:
    """``image``, ``pair`` or ``reference`` for every sidecar row."""
    return rows["task"].map({"t2i": IMAGE, "ti2i": PAIR, "reference": REFERENCE}).to_numpy(dtype=object)


def kept(reason: np.ndarray) -> np.ndarray:
    """Which rows have no reason against them."""
    return np.asarray(reason == None)  # noqa: E711  (by value, for all at once)


def first_reason(table: "pd.DataFrame", limits: StageThresholds, config: CurateConfig, filters: tuple[Filter, ...] = FILTERS) -> np.ndarray:
    """Name of the first filter that refuses each row, or None; a filter judges the roles that it is for, without the groups that are exempt from it."""
    reason = np.full(len(table), None, dtype=object)
    role, spared = table["role"].to_numpy(), exempt.spared(table, config)
    for item in filters:
        refused = item.rejects(table, limits) & np.isin(role, item.roles) & ~spared.get(item.name, np.False_)
        reason[refused & kept(reason)] = item.name
    return reason


def run_stages(table: "pd.DataFrame", config: CurateConfig, seed: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reasons per stage (None: kept) and the funnel {stage: {in, rejected, kept, ...}}, with in = kept + rejected."""
    reasons: dict[str, np.ndarray] = {}
    funnel: dict[str, Any] = {}
    before = np.full(len(table), NOT_ADMITTED, dtype=object)
    for name, limits in thresholds(config).items():
        before, funnel[name] = run_stage(table, before, limits, config, seed)
        reasons[name] = before
    return reasons, funnel


def run_stage(table: "pd.DataFrame", before: np.ndarray, limits: StageThresholds, config: CurateConfig, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """The reasons after one stage, given those of the stage before, and its part of the funnel."""
    reason = before.copy()
    entering = _entering(table, before, limits, config)
    reason[entering] = first_reason(table[entering], limits, config)
    _check_references(table, reason)
    if limits.balance:
        for column in config.balance_over:
            _balance(table, _category(table, column, limits), reason, limits.balance, seed)
        _check_references(table, reason)
    heldout = (table["split"] == "heldout").to_numpy()
    reason[heldout] = np.where(near.FILTER.rejects(table[heldout], limits), near.FILTER.name, HELDOUT)
    return reason, _summary(table, entering, reason, limits)


def _entering(table: "pd.DataFrame", before: np.ndarray, limits: StageThresholds, config: CurateConfig) -> np.ndarray:
    synthetic = exempt.synthetic(table, config)
    edit = table["role"] != IMAGE
    admitted = (bool(limits.edits) | ~edit) & (bool(limits.synthetic) | ~synthetic) & (table["split"] != "heldout")
    return np.asarray(admitted.to_numpy() & (kept(before) | (before == NOT_ADMITTED)))


def _check_references(table: "pd.DataFrame", reason: np.ndarray) -> None:
    """Drop pairs whose reference is not kept, then references that no kept pair uses."""
    role, ids, references = table["role"].to_numpy(), table["id"].to_numpy(), table["references"].to_numpy()
    known = set(ids[kept(reason)])
    for row in np.flatnonzero(kept(reason) & (role == PAIR)):
        if not known.issuperset(references[row]):
            reason[row] = BAD_REFERENCE
    used = {name for row in np.flatnonzero(kept(reason) & (role == PAIR)) for name in references[row]}
    for row in np.flatnonzero(kept(reason) & (role == REFERENCE)):
        if ids[row] not in used:
            reason[row] = UNUSED


def _category(table: "pd.DataFrame", column: str, limits: StageThresholds) -> np.ndarray:
    """What the distribution is balanced over: a column of the table, or the training ``side`` that a row fills."""
    if column == "side":
        return sides_filled(table["short_side"], limits).astype(str)
    if column not in table:
        raise QI2Error(f"curate.balance_over names {column!r}, which is neither side nor a column: {', '.join(table.columns)}")
    return table[column].fillna("").astype(str).to_numpy(dtype=str)


def sides_filled(short_side: "pd.Series", limits: StageThresholds) -> np.ndarray:
    """The largest training side in px that each row fills, 0 for none and for rows of unknown size."""
    sides = np.array([0, *sorted(limits.sides or [])])
    return sides[np.searchsorted(sides, short_side.fillna(0).to_numpy(float), side="right") - 1]


def _balance(table: "pd.DataFrame", category: np.ndarray, reason: np.ndarray, limit: float, seed: int) -> None:
    """Keep at most ``limit`` times the usual count of kept targets per (role, category); which ones is random but fixed.

    The usual count is that of the category in which the median row stands, so that many rare ones do not lower it.
    """
    targets = kept(reason) & (table["role"] != REFERENCE).to_numpy()
    groups = np.char.add(np.char.add(table["role"].to_numpy(dtype=str), ":"), category)
    names, counts = np.unique(groups[targets].astype(str), return_counts=True)
    if len(names) < 2:  # one category alone is balanced
        return
    ascending = np.sort(counts)
    usual = ascending[np.searchsorted(np.cumsum(ascending), targets.sum() / 2)]
    most = max(1, int(limit * usual))
    ids = table["id"].to_numpy()
    for name in names[counts > most]:
        rows = np.flatnonzero(targets & (groups == name))
        order = sorted(rows, key=lambda row: key(seed, f"balance-{ids[row]}"))
        reason[order[most:]] = BALANCE


def _summary(table: "pd.DataFrame", entering: np.ndarray, reason: np.ndarray, limits: StageThresholds) -> dict[str, Any]:
    stay = entering & kept(reason)
    names, counts = np.unique(reason[entering & ~stay].astype(str), return_counts=True)
    rejected = dict(zip(names.tolist(), counts.tolist(), strict=True))
    order = [item.name for item in FILTERS] + [BAD_REFERENCE, UNUSED, BALANCE]
    largest, filled = np.unique(sides_filled(table["short_side"][stay], limits), return_counts=True)
    return {
        "in": int(entering.sum()),
        "rejected": {name: rejected[name] for name in order if name in rejected},
        "kept": int(stay.sum()),
        "kept_by_role": table["role"][stay].value_counts().sort_index().to_dict(),
        "kept_by_kind": table["kind"][stay].fillna("").value_counts().sort_index().to_dict(),
        "kept_by_side": {str(side): int(count) for side, count in zip(largest, filled, strict=True)},
        "thresholds": asdict(limits),
    }
