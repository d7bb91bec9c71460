"""Stage `datasets`: the data sets s1 to s6 that the six training stages read (report 2.3, Figure 6), as tar shards with a sidecar.

A set holds what curation's manifest of its stage keeps, in an order that is random but fixed by the seed. In the shards a sample is what the webdataset
convention calls one: files with the same key. ``ID.png`` is the picture exactly as it came, ``ID.ref0.png`` the first picture that an edit starts
from, ``ID.txt`` the first caption, ``ID.json`` all captions with region, licence, bucket and weight. The sidecar has every column of the manifest, and
the place of every picture, so that any of them is read without the tar's index. The same inputs give the same bytes.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.publish import publish
from qi2.core.reporter import Reporter
from qi2.core.rng import key
from qi2.data.curate_config import STAGES
from qi2.data.datasets_config import DatasetsConfig
from qi2.data.filters.base import REFERENCE
from qi2.data.shards import SIDECAR, TarShards, plain_nulls, read_bytes

if TYPE_CHECKING:
    import pandas as pd

TOLD = ("task", "kind", "caption_kind", "captions", "region", "licence", "origin", "side", "bucket", "weight", "sha256")  # in ID.json
CARD = "README.md"  # curation's, which counts what is in every set
Line = dict[str, Any]


class DatasetsRecipe(Protocol):
    """The part of the recipe that this stage reads."""

    @property
    def seed(self) -> int: ...

    @property
    def datasets(self) -> DatasetsConfig: ...


def write_datasets(cfg: DatasetsRecipe, raw: Path, curated: Path, out: Path, reporter: Reporter) -> dict[str, float]:
    """Publish ``out/s1`` to ``out/s6`` with the dataset card and ``metrics.json``; raises QI2Error when no stage keeps any row."""
    import pandas as pd

    manifests = {f"s{number}": plain_nulls(pd.read_parquet(curated / f"{stage}.parquet")) for number, stage in enumerate(STAGES, start=1)}
    total = sum(map(len, manifests.values()))
    if not total:
        raise QI2Error(f"{curated}: no stage keeps a row; loosen the thresholds in curate")
    metrics: dict[str, float] = {}
    with publish(out) as staging, Progress("datasets", total, "img") as progress:
        for name, manifest in manifests.items():
            metrics |= {f"datasets/{name}/{what}": value for what, value in _write(manifest, raw, staging / name, cfg, progress).items()}
        (staging / CARD).write_text((curated / CARD).read_text())
        (staging / "metrics.json").write_text(json.dumps(metrics, indent=1))
    reporter.metrics(metrics, 0)
    return metrics


def _write(manifest: "pd.DataFrame", raw: Path, folder: Path, cfg: DatasetsRecipe, progress: Progress) -> dict[str, float]:
    """Write one set and return its figures."""
    import pandas as pd

    lines: list[Line] = []
    with TarShards(folder, cfg.datasets.shard_samples) as shards:
        for sample in _samples(manifest, cfg.seed):
            contents = [read_bytes(raw, row) for row in sample]
            shard, offsets = shards.add([*zip(_names(sample), contents, strict=True), *_texts(sample[0])])
            lines += [row | {"shard": shard, "offset": offset} for row, offset in zip(sample, offsets, strict=False)]
            progress.update(len(sample))
    table = pd.DataFrame(lines, columns=list(manifest.columns)).astype({"offset": "int64"})
    table.to_parquet(folder / SIDECAR, index=False)
    edits = table["task"] == "ti2i"
    counts = {"t2i": float((table["task"] == "t2i").sum()), "ti2i": float(edits.sum()), "ti2i_share": float(table["weight"][edits].sum())}
    return counts | {"bytes": float(table["length"].sum())}


def _samples(manifest: "pd.DataFrame", seed: int) -> Iterator[list[Line]]:
    """Every target with the pictures that it starts from, shuffled by a key of its id."""
    rows: dict[str, Line] = {str(row["id"]): row for row in manifest.to_dict("records")}  # type: ignore[misc]
    targets = [name for name, row in rows.items() if row["role"] != REFERENCE]
    for name in sorted(targets, key=lambda name: (key(seed, f"datasets-{name}"), name)):
        yield [rows[name], *(rows[reference] for reference in rows[name]["references"])]


def _names(sample: list[Line]) -> list[str]:
    target, *references = sample
    return [f"{target['id']}.{_extension(target)}", *(f"{target['id']}.ref{k}.{_extension(row)}" for k, row in enumerate(references))]


def _extension(row: Mapping[str, Any]) -> str:
    return {"JPEG": "jpg", "TIFF": "tif"}.get(row["format"], str(row["format"]).lower())


def _texts(target: Line) -> list[tuple[str, bytes]]:
    captions = list(target["captions"])
    told = {name: captions if name == "captions" else target[name] for name in TOLD}
    return [(f"{target['id']}.txt", (captions[0] if captions else "").encode()), (f"{target['id']}.json", json.dumps(told, ensure_ascii=False).encode())]
