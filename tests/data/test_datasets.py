"""The data sets of the six stages: what curation keeps, in the mixture of Table 2, readable by anybody, the same bytes for the same inputs."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qi2.core.publish import verify
from qi2.core.reporter import NullReporter
from qi2.data.aspect import bucket, buckets
from qi2.data.curate import curate
from qi2.data.curate_config import CurateConfig
from qi2.data.datasets import write_datasets
from qi2.data.datasets_config import DatasetsConfig
from qi2.data.drift import track
from qi2.data.shards import Sidecar, read_bytes
from tests.data.conftest import Recipe, distinct_scenes, scene_row, write_raw
from tests.data.test_curate import _edit_rows


class Sets(Recipe):
    """The recipe with small shards."""

    datasets = DatasetsConfig(shard_samples=16)


@pytest.fixture
def runs(standins: Path, lenient: CurateConfig, tmp_path: Path) -> Path:
    """30 images and 7 edits, curated."""
    rows = [scene_row(f"w{k}", scene) for k, scene in enumerate(distinct_scenes(30))] + _edit_rows(7)
    lenient.stage2.ti2i_share, lenient.stage4.ti2i_share = 0.1, 0.3
    curate(Recipe(curate=lenient), write_raw(tmp_path / "raw", rows), standins, tmp_path / "curated", NullReporter())
    return tmp_path


def _write(runs: Path, name: str = "datasets") -> Path:
    write_datasets(Sets(), runs / "raw", runs / "curated", runs / name, NullReporter())
    return runs / name


def test_a_set_holds_what_its_manifest_keeps_byte_for_byte(runs: Path) -> None:
    out, raw = _write(runs), Sidecar.load(runs / "raw").table.set_index("id", drop=False)
    for stage in range(1, 7):
        kept, held = pd.read_parquet(runs / "curated" / f"stage{stage}.parquet"), Sidecar.load(out / f"s{stage}").table
        assert sorted(held["id"]) == sorted(kept["id"])
        for row in held.to_dict("records"):
            assert read_bytes(out / f"s{stage}", row) == read_bytes(runs / "raw", raw.loc[row["id"]])


def test_weights_draw_the_mixture_of_table_2(runs: Path) -> None:
    out = _write(runs)
    shares = [Sidecar.load(out / f"s{stage}").table.groupby("task")["weight"].sum() for stage in range(1, 7)]
    assert [round(float(share.get("ti2i", 0.0)), 6) for share in shares] == [0.0, 0.1, 0.1, 0.3, 0.3, 0.3]
    assert all(abs(share.sum() - 1) < 1e-9 and share.get("reference", 0.0) == 0 for share in shares)


def test_an_edit_is_one_webdataset_sample_with_its_references(runs: Path) -> None:
    out = _write(runs)
    samples: dict[str, list[str]] = {}
    for path in sorted((out / "s2").glob("*.tar")):
        with tarfile.open(path) as shard:
            for name in shard.getnames():
                samples.setdefault(name.partition(".")[0], []).append(name.partition(".")[2])
            told = {name: json.load(shard.extractfile(name)) for name in shard.getnames() if name.endswith(".json")}  # type: ignore[arg-type]
    edits = Sidecar.load(out / "s2").table.query("task == 'ti2i'")
    for row in edits.to_dict("records"):
        assert sorted(samples[row["id"]]) == sorted(["png", "txt", "json", *(f"ref{k}.png" for k in range(len(row["references"])))])
    assert all(len(entry["captions"]) and entry["bucket"] == "32x32" for entry in told.values())


def test_the_same_inputs_give_the_same_bytes(runs: Path) -> None:
    assert verify(_write(runs)) == verify(_write(runs, "again"))


def test_buckets_have_the_area_of_their_side_and_the_nearest_aspect() -> None:
    for side in (64, 256, 512, 1024, 2048):
        for width, height in buckets(side):
            assert width % 32 == height % 32 == 0 and 0.75 <= width * height / side**2 <= 1.25
    assert bucket(512, 1.0) == (512, 512)
    assert bucket(512, 4 / 3) == (576, 448)
    assert bucket(1024, 0.1)[0] < bucket(1024, 0.5)[0]


def test_drift_is_told_against_the_version_before(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    old, same, new = (pd.DataFrame({"entropy": draw.normal(mean, 1, 2000), "clip": 0.5}) for mean in (4, 4, 6))
    funnel = {"stage1": {"in": 2000, "kept": 2000}}
    everything = np.ones(2000, bool)
    assert track(old, everything, funnel, tmp_path) == {}
    stable = track(same, everything, funnel, tmp_path)
    assert stable["entropy"] < 0.05 and stable["clip"] == pytest.approx(0, abs=1e-3)
    moved = track(new, everything, funnel, tmp_path)
    assert moved["entropy"] > 1.0
    assert track(new, everything, funnel, tmp_path) == moved
