"""Drift of curated data against the version before: per score the population stability index, per stage the change of what is kept.

The index compares the shares of the kept rows in the ten parts that the version before fills evenly; below 0.1 is usually called stable, above 0.25 a
change of the population. It depends on what ran before, so it stands beside the results and is no part of them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.core.publish import write_file

if TYPE_CHECKING:
    import pandas as pd

SCORES = ("entropy", "difference_entropy", "sharpness", "aesthetic", "jpeg_quality", "blockiness", "nsfw", "clip", "tokens_max", "short_side")
FILE = "drift.json"
PARTS = 10
LEAST = 1e-4  # share that an empty part counts as
Summary = dict[str, Any]


def track(table: "pd.DataFrame", kept: np.ndarray, funnel: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, float]:
    """Compare with what ``folder`` remembers of the version before, write ``drift.json`` there, and return {score: index} (empty: nothing before).

    kept: rows of ``table`` that the first stage keeps. Curating the same data again compares with the version before it once more.
    """
    path = folder / FILE
    known = json.loads(path.read_text()) if path.exists() else {"now": None, "before": None}
    now = _summary(table[kept], funnel)
    before = known["before"] if known["now"] == now else known["now"]
    scores = before["scores"] if before else {}
    index = {name: _index(scores[name], table[kept][name]) for name in now["scores"] if name in scores}
    folder.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps({"now": now, "before": before, "index": index}, indent=1).encode())
    return index


def _summary(rows: "pd.DataFrame", funnel: Mapping[str, Mapping[str, Any]]) -> Summary:
    values = {name: rows[name].dropna().to_numpy(float) for name in SCORES if name in rows}
    edges = {name: np.unique(np.quantile(found, np.linspace(0, 1, PARTS + 1)[1:-1])).tolist() for name, found in values.items() if len(found)}
    scores = {name: {"edges": inner, "shares": _shares(inner, values[name]).tolist()} for name, inner in edges.items()}
    return {"scores": scores, "kept": {name: stage["kept"] for name, stage in funnel.items()}, "in": {name: stage["in"] for name, stage in funnel.items()}}


def _index(before: Mapping[str, list[float]], values: "pd.Series") -> float:
    """The stability index of values against the version before, of which ``shares`` lie between ``edges``."""
    expected = np.maximum(before["shares"], LEAST)
    found = np.maximum(_shares(before["edges"], values.dropna().to_numpy(float)), LEAST)
    return float(((found - expected) * np.log(found / expected)).sum())


def _shares(edges: list[float], values: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1) / max(len(values), 1)
