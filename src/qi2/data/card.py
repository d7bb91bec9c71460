"""The dataset card of curated data: what it holds, where it comes from, how it was chosen, and what its scores are worth.

Sections as in the cards of the Hugging Face hub; every figure is counted from the score table and the funnel.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qi2.data.filters.base import REFERENCE
from qi2.data.filters.models import ModelPaths

if TYPE_CHECKING:
    import pandas as pd

FIELDS = {
    "id, shard, offset, length, sha256": "the row, and where its file's bytes lie in the raw tar shards",
    "width, height, format": "of the file, before it is turned upright",
    "captions, caption_kind": "one or more texts; instructions where task is ti2i",
    "source, origin, licence, opt_out": "where the row comes from and what its owner allows",
    "task, role, references, region, kind": "T2I target, edit with its reference rows, or reference; what may change",
    "scene, edit, page": "JSON of what a picture shows, where it was drawn: the world's scene, its edit, a page of text with all blocks",
    "exempt": "only with curate.exempt: the filters that do not judge the row",
    "side, bucket, weight": "in a stage's table: the training side that the picture fills, its aspect bucket there, and how often it is drawn",
    "short_side, long_side, aspect, orientation": "pixels of the upright picture, and EXIF's orientation",
    "pixel_sha256, phash, exact_duplicate_of, near_duplicate_of, semantic_duplicate_of": "identity of the picture, and the row that is kept in its place",
    "nsfw, content_rotation, upright, clip, tokens_min, tokens_max": "scores of the models named below, empty where none is",
    "pair_change, pair_outside, pair_similarity": "edits: change where one may be, change where none may be, and what it has in common with its reference",
    "entropy, difference_entropy, sharpness, aesthetic, jpeg_quality, blockiness": "measured from the pixels (aesthetic: by the model below, if one is named)",
}


def card(table: "pd.DataFrame", funnel: Mapping[str, Mapping[str, Any]], models: ModelPaths, trained_here: Sequence[str]) -> str:
    """Markdown with the hub's front matter; ``table``: all rows with scores; ``trained_here``: which models are small stand-ins."""
    used = table[table["role"] != REFERENCE]
    kept = used[used[[f"reason_{name}" for name in funnel]].isna().any(axis=1)]
    heldout = used[used["split"] == "heldout"]
    spoilt = int(heldout["near_duplicate_of"].notna().sum())
    captions = [text for texts in kept["captions"] for text in texts]
    stages = [(name, stage["in"], stage["kept"], _share(stage["kept"], stage["in"]), _sides(stage), _reasons(stage)) for name, stage in funnel.items()]
    sources = kept.groupby(["source", "task", "licence"]).size().reset_index(name="rows").itertuples(index=False)
    named = {"tokenizer": models.tokenizer, "clip": models.clip, "nsfw": models.nsfw}
    named |= {name: path for name, path in {"aesthetic": models.aesthetic, "orientation": models.orientation}.items() if path}
    scorers = [(name, "a small stand-in, trained by this project" if name in trained_here else f"`{path}`") for name, path in named.items()]
    return "\n".join(
        [
            "---",
            "task_categories: [text-to-image, image-to-image]",
            f"size_categories: [{_size(len(kept))}]",
            "---",
            "# Curated images for an omni image model",
            "",
            f"{len(kept)} of {len(used)} samples (images and edits) are in one training manifest or more, with {len(captions)} captions"
            + (f" of {int(np.median([len(text) for text in captions]))} letters (median)." if captions else "."),
            f"{len(heldout)} are held out and enter no training manifest"
            + (f"; {spoilt} of them are rejected, since earlier data trained on copies of them." if spoilt else "."),
            "",
            "## Training stages",
            "Each stage takes what the one before kept and applies its own thresholds (`funnel.json` has them all).",
            *_table(("stage", "in", "kept", "share", "sides", "rejected by"), stages),
            "",
            "## Sources and licences",
            *_table(("source", "task", "licence", "rows kept"), sources),
            "",
            "## Mixture",
            "Drawing rows by `weight` gives the report's ratio (Table 2) of edits to images, whatever their counts: "
            + ", ".join(f"{name} {stage['thresholds']['ti2i_share'] or 0:g}" for name, stage in funnel.items())
            + ".",
            "",
            "## Fields",
            *_table(("columns", "meaning"), [(f"`{names}`", text) for names, text in FIELDS.items()]),
            "",
            "## Models behind the scores",
            *_table(("score", "model"), scorers),
            "",
            "## Opting out",
            f"{int(table['opt_out'].sum())} rows say that their owner does not want them trained on; they are in no manifest.",
            "",
            "## Personal and sensitive information",
            "Faces are not searched for and nobody is blurred. The NSFW score is a probability by the model above; thresholds are in `funnel.json`.",
            "A stand-in's scores say nothing about real pictures: give real models before such data are published.",
            "",
        ]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    return ["", f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(str(value).replace('|', '/') for value in row)} |" for row in rows)]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def _sides(stage: Mapping[str, Any]) -> str:
    return ", ".join(f"{side} px {count}" for side, count in stage["kept_by_side"].items()) or "–"


def _reasons(stage: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in stage["rejected"].items()) or "–"


def _size(rows: int) -> str:
    """The hub's name for a number of rows."""
    limits = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
    return next((name for limit, name in limits if rows < limit), "n>10M")
