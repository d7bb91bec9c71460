"""How well curation did where the truth is known: precision and recall per planted defect of the world's data."""

from typing import TYPE_CHECKING

import numpy as np

from qi2.data.stages import BALANCE, UNUSED, kept

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "defect_"
# Which reasons are right for a planted defect. A row may be rejected for another one that comes first in the order.
EXPECTED = {
    "truncated": ("broken",),
    "corrupt": ("broken",),
    "not_an_image": ("broken",),
    "exact_copy": ("exact_duplicate",),
    "near_copy": ("near_duplicate",),
    "rotated": ("rotation",),
    "small": ("resolution",),
    "flat": ("entropy",),
    "noise": ("entropy",),
    "wrong_caption": ("clip",),
    "unsafe": ("nsfw",),
    "long_caption": ("token_length",),
    "short_caption": ("token_length",),
    "compressed": ("compression",),
}
CHOSEN = (BALANCE, UNUSED)  # rejected although nothing is wrong with the row


def figures(table: "pd.DataFrame", reason: np.ndarray) -> dict[str, float]:
    """Figures over the training rows; empty when the data holds no planted defect.

    ``curate/recall/DEFECT``: share of a planted defect that is rejected at any stage; a planted copy also counts when it is the one
    that was kept and the original went. ``curate/precision/REASON``: share of planted defects, and of originals that gave way to a
    planted copy, among the rows rejected for that reason. ``curate/good/rejected``: share of good rows lost to any filter.
    """
    kind = table["kind"].fillna("").astype(str).to_numpy()
    train = (table["split"] != "heldout").to_numpy()
    planted = np.array([name.startswith(PREFIX) for name in kind]) & train
    if not planted.any():
        return {}
    caught = ~kept(reason) & ~np.isin(reason.astype(str), CHOSEN)
    names = np.array([name.removeprefix(PREFIX) for name in kind])
    settled = caught | _kept_copies(table)
    found = {f"curate/recall/{name}": float(settled[planted & (names == name)].mean()) for name in sorted(set(names[planted]))}
    originals = _originals(table, planted)
    for why in sorted({why for whys in EXPECTED.values() for why in whys} & set(reason[caught])):
        rows = caught & (reason == why)
        found[f"curate/precision/{why}"] = float((planted | originals)[rows].mean())
    good = train & ~planted & ~originals
    return found | {"curate/good/rejected": float(caught[good].mean()), "curate/defects/rejected": float(settled[planted].mean())}


def _originals(table: "pd.DataFrame", planted: np.ndarray) -> np.ndarray:
    """Good rows that gave way to a planted copy of themselves."""
    ids = set(table["id"][planted])
    return np.asarray(table["exact_duplicate_of"].isin(ids) | table["near_duplicate_of"].isin(ids))


def _kept_copies(table: "pd.DataFrame") -> np.ndarray:
    """Rows for whose sake another one was rejected as a duplicate."""
    kept = set(table["exact_duplicate_of"].dropna()) | set(table["near_duplicate_of"].dropna())
    return np.asarray(table["id"].isin(kept))
