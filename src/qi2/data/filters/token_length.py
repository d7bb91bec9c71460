"""Token length (report 2.3, stage 1): captions missing or outside the accepted range, in tokens of the condition encoder."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from qi2.data.curate_config import StageThresholds
from qi2.data.filters.base import TARGETS, Filter, outside
from qi2.data.filters.models import ModelPaths, load_pretrained

if TYPE_CHECKING:
    import pandas as pd


class TokenScorer:
    """Counts caption tokens with the tokenizer that training will use."""

    roles = TARGETS
    columns = ("tokens_min", "tokens_max")

    def __init__(self, paths: ModelPaths, device: str = "cpu") -> None:
        from transformers import AutoTokenizer

        self.tokenizer = load_pretrained(AutoTokenizer.from_pretrained, paths.tokenizer, "tokenizer", "standins.vlm.path")

    def score(self, images: list[Image.Image], captions: list[list[str]]) -> dict[str, np.ndarray]:
        """``tokens_min`` and ``tokens_max`` over a row's captions; NaN without captions."""
        texts = [text for group in captions for text in group]
        counts = iter([len(ids) for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else [])
        lengths: list[list[float]] = [[next(counts) for _ in group] or [np.nan] for group in captions]
        return {"tokens_min": np.array([min(row) for row in lengths]), "tokens_max": np.array([max(row) for row in lengths])}


def _rejects(table: "pd.DataFrame", limits: StageThresholds) -> np.ndarray:
    if limits.min_tokens is None and limits.max_tokens is None:
        return np.zeros(len(table), bool)
    short = outside(table["tokens_min"], limits.min_tokens, None) | table["tokens_min"].isna().to_numpy()
    return short | outside(table["tokens_max"], None, limits.max_tokens)


FILTER = Filter(
    "token_length",
    TARGETS,
    (
        "tokens_min",
        "tokens_max",
    ),
    _rejects,
)
