"""The gate lets sound manifests pass and names what is wrong with others, in words and in Data Docs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.core.rng import numpy_rng
from qi2.data.curate import curate
from qi2.data.curate_config import STAGES
from qi2.data.shards import Row
from qi2.data.world.defects import encode_png
from qi2.data.world.edits import EDIT_KINDS, sample_edit
from qi2.data.world.render import render
from tasks.gate import check_curated
from tests.data.conftest import Recipe, distinct_scenes, lenient_config, scene_row, standins, write_raw

__all__ = ["standins"]


def _edit_rows(k: int) -> list[Row]:
    edit = sample_edit(numpy_rng(0, "tests/gate", k), EDIT_KINDS[k % len(EDIT_KINDS)])
    names = tuple(f"e{k}-{index}" for index in range(len(edit.references)))
    inputs = [
        Row(name, encode_png(render(scene, 64)), "png", (), task="reference", kind="reference")
        for name, scene in zip(names, edit.references, strict=True)
    ]
    target = encode_png(render(edit.target, 64))
    return [*inputs, Row(f"e{k}", target, "png", (edit.instruction,), task="ti2i", kind=edit.kind, references=names)]


@pytest.fixture(scope="module")
def sound(standins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``runs/SCALE`` with a really curated folder."""
    folder = tmp_path_factory.mktemp("gate")
    rows = [scene_row(f"w{k}", scene) for k, scene in enumerate(distinct_scenes(30))]
    rows += [scene_row(f"h{k}", scene, "heldout") for k, scene in enumerate(distinct_scenes(4, split="heldout"))]
    rows += [row for k in range(5) for row in _edit_rows(k)]
    curate(Recipe(curate=lenient_config()), write_raw(folder / "raw", rows), standins, folder / "curated", NullReporter())
    return folder


@pytest.fixture
def runs(sound: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(sound / "curated", tmp_path / "curated")
    return tmp_path


def _change(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def test_sound_manifests_pass_and_data_docs_are_written(sound: Path) -> None:
    result = check_curated(sound, "smoke")
    assert (result.success, result.failures) == (True, ())
    assert result.docs_path == sound / "data_docs" / "index.html"
    pages = {path.stem for path in (sound / "data_docs" / "expectations").rglob("*.html")}
    assert pages == {*STAGES, "funnel", "split"}
    assert len(list((sound / "data_docs" / "validations").rglob("*.html"))) == len(pages)


def test_a_second_check_replaces_the_docs(runs: Path) -> None:
    for _ in range(2):
        check_curated(runs, "smoke")
    assert len(list((runs / "data_docs" / "validations").rglob("*.html"))) == len(STAGES) + 2


def _twice(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.head(1)])


SPOILED: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "an id twice": (_twice, "stage2 id: column values to be unique"),
    "a malformed hash": (lambda table: table.assign(sha256="abc"), "stage2 sha256: column values to match regex"),
    "too small an image": (lambda table: table.assign(short_side=8.0), "stage2 short_side"),
    "an impossible score": (lambda table: table.assign(entropy=9.5), "stage2 entropy"),
    "an unsafe image": (lambda table: table.assign(nsfw=0.99), "stage2 nsfw"),
    "a missing licence": (lambda table: table.assign(licence=None), "stage2 licence: column values to not be null"),
    "a held-out row": (lambda table: table.assign(split="heldout"), "stage2 split"),
    "a pair without its reference": (lambda table: table[table["role"] != "reference"], "stage2 missing_references"),
    "an uncaptioned image": (lambda table: table.assign(captions=[[] for _ in range(len(table))]), "stage2 caption_count"),
}


def test_every_spoiled_manifest_fails_by_its_own_expectation(runs: Path, tmp_path: Path) -> None:
    intact = pd.read_parquet(runs / "curated" / "stage2.parquet")
    for name, (spoil, expected) in SPOILED.items():
        spoil(intact).to_parquet(runs / "curated" / "stage2.parquet", index=False)
        result = check_curated(runs, "smoke")
        assert not result.success, name
        assert [line for line in result.failures if line.startswith(expected)], (name, result.failures)
        assert not [line for line in result.failures if line.startswith(("stage1", "stage3", "split"))], name


def test_a_training_picture_that_is_held_out_fails(runs: Path) -> None:
    leaked = pd.read_parquet(runs / "curated" / "stage1.parquet")["pixel_sha256"].iloc[0]
    _change(
        runs / "curated" / "scores.parquet",
        lambda table: table.assign(pixel_sha256=table["pixel_sha256"].mask(table["split"] == "heldout", leaked)),
    )
    assert [line.split(":")[0] for line in check_curated(runs, "smoke").failures] == ["split seen_in_training"]


def test_survival_outside_its_band_and_lost_rows_fail(runs: Path) -> None:
    path = runs / "curated" / "funnel.json"
    funnel = json.loads(path.read_text())
    funnel["stage1"]["thresholds"]["survival"] = [0.0, 0.5]
    funnel["stage4"]["in"] += 1
    path.write_text(json.dumps(funnel))
    failures = check_curated(runs, "smoke").failures
    assert {line.split(":")[0] for line in failures} == {"funnel high / survival", "funnel in / accounted"}
    assert all("stage1" in line or "stage4" in line for line in failures)


def test_the_gate_before_curation_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="curate stage"):
        check_curated(tmp_path, "smoke")
