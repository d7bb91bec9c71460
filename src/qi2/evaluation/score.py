"""Exact verdicts per picture, and the figures that follow from them. Torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from qi2.data.world.checker import check, check_edit
from qi2.evaluation.bootstrap import Bootstrap, Figure
from qi2.evaluation.models import CHAIN, STUDENT
from qi2.evaluation.suites.world import EditItem, T2IItem

Verdict = dict[str, Any]  # attribute -> bool; for edits also kept_mae -> float
Figures = dict[str, Figure]
KEPT_MULTIPLE = 3.0  # ours: how far above the VAE's own error an edit may be and still count as leaving the rest alone


def judge_t2i(pictures: Sequence[Image.Image], items: Sequence[T2IItem]) -> list[Verdict]:
    """Which attributes of its scene each picture shows, and ``all``."""
    return [{name: bool(right) for name, right in check(picture, item.scene).items()} for picture, item in zip(pictures, items, strict=True)]


def judge_edits(pictures: Sequence[Image.Image], items: Sequence[EditItem], sources: Sequence[Image.Image]) -> list[Verdict]:
    """``done``: the asked-for change is there; ``all``: the whole picture is the target; ``kept_mae`` (0..255) where nothing may change."""
    verdicts = []
    for picture, item, source in zip(pictures, items, sources, strict=True):
        found = check_edit(picture, item.edit, source)
        verdicts.append({"done": bool(found["done"]), "all": bool(found["all"]), "kept_mae": float(found["kept_mae"])})
    return verdicts


def t2i_figures(boot: Bootstrap, items: Sequence[T2IItem], verdicts: Mapping[str, Sequence[Verdict]]) -> Figures:
    """t2i/accuracy/MODEL, t2i/accuracy_by_kind/KIND/MODEL and t2i/attribute/ATTRIBUTE/MODEL."""
    figures: Figures = {}
    for model, rows in verdicts.items():
        figures[f"t2i/accuracy/{model}"] = boot.mean(column(rows, "all"))
        for kind in dict.fromkeys(item.kind for item in items):
            chosen = [row for row, item in zip(rows, items, strict=True) if item.kind == kind]
            figures[f"t2i/accuracy_by_kind/{kind}/{model}"] = boot.mean(column(chosen, "all"))
        for attribute in dict.fromkeys(name for row in rows for name in row if name != "all"):
            figures[f"t2i/attribute/{attribute}/{model}"] = boot.mean(column([row for row in rows if attribute in row], attribute))
    return figures


def edit_figures(boot: Bootstrap, items: Sequence[EditItem], verdicts: Mapping[str, Sequence[Verdict]], floor: float) -> Figures:
    """edit/done/MODEL, edit/all/MODEL, edit/kept_mae/MODEL, edit/kept_mae_median/MODEL, edit/kept/MODEL, and by kind.

    The mean error mixes two things that its median keeps apart: how well the rest is copied, and that a few times another object is
    drawn in its place. An edit counts as kept when its error where nothing may change is at most KEPT_MULTIPLE times ``floor``, the VAE's mean own error.
    """
    figures: Figures = {}
    for model, rows in verdicts.items():
        for name in ("done", "all", "kept_mae"):
            figures[f"edit/{name}/{model}"] = boot.mean(column(rows, name))
        figures[f"edit/kept_mae_median/{model}"] = boot.median(column(rows, "kept_mae"))
        figures[f"edit/kept/{model}"] = boot.mean(column(rows, "kept_mae") <= KEPT_MULTIPLE * floor)
        for kind in dict.fromkeys(item.kind for item in items):
            chosen = [row for row, item in zip(rows, items, strict=True) if item.kind == kind]
            figures[f"edit/done_by_kind/{kind}/{model}"] = boot.mean(column(chosen, "done"))
            figures[f"edit/kept_mae_by_kind/{kind}/{model}"] = boot.mean(column(chosen, "kept_mae"))
    return figures


def reference_figures(boot: Bootstrap, unchanged: Sequence[Verdict], perfect: Sequence[Verdict]) -> Figures:
    """What editing figures are read against: the unchanged source, and the true target through the VAE."""
    return {
        "edit/done_source": boot.mean(column(unchanged, "done")),
        "edit/done_ceiling": boot.mean(column(perfect, "done")),
        "edit/vae_floor_mae": boot.mean(column(perfect, "kept_mae")),
        "edit/vae_floor_mae_median": boot.median(column(perfect, "kept_mae")),
    }


def comparisons(boot: Bootstrap, items: Sequence[T2IItem], verdicts: Mapping[str, Sequence[Verdict]]) -> Figures:
    """Paired figures between models of the chain: gains of each stage over the one before, and what the student keeps."""
    right = {model: column(rows, "all") for model, rows in verdicts.items()}
    present = [name for name in CHAIN if name in right and name != STUDENT]
    figures = {f"t2i/gain/{after}": boot.difference(right[after], right[before]) for before, after in zip(present, present[1:], strict=False)}
    if "rlhf" in right and "sft" in right:
        figures["rl/gain"] = boot.difference(right["rlhf"], right["sft"])
        for kind in dict.fromkeys(item.kind for item in items):
            chosen = np.array([item.kind == kind for item in items])
            figures[f"rl/gain_by_kind/{kind}"] = boot.difference(right["rlhf"][chosen], right["sft"][chosen])
    if STUDENT in right and "teacher" in right:
        retention = boot.ratio(right[STUDENT], right["teacher"])
        figures |= {"distill/retention": retention} if retention else {}
        for baseline in ("teacher", "teacher_4step", "untrained_4step"):
            if baseline in right:
                figures[f"distill/gain_over_{baseline}"] = boot.difference(right[STUDENT], right[baseline])
    return figures


def column(rows: Sequence[Verdict], name: str) -> np.ndarray:
    """One value per row as float64."""
    return np.array([row[name] for row in rows], dtype=np.float64)
