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
        Row(name, encode_png(render(scene, 64)), "png", (), task="reference", kind="reference") for name, scene in zip(names, edit.references, strict=True)
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


def _twice(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.head(1)])


SPOILED: dict[str, list[tuple[Callable[[pd.DataFrame], pd.DataFrame], str]]] = {
    "stage1": [(_twice, "id: column values to be unique")],
    "stage2": [(lambda table: table[table["role"] != "reference"], "missing_references: column values to be between")],
    "stage3": [
        (lambda table: table.assign(sha256="abc"), "sha256: column values to match regex"),
        (lambda table: table.assign(short_side=8.0), "short_side: column values to be between"),
    ],
    "stage4": [
        (lambda table: table.assign(entropy=9.5), "entropy: column values to be between"),
        (lambda table: table.assign(nsfw=0.99), "nsfw: column values to be between"),
    ],
    "stage5": [
        (lambda table: table.assign(licence=None), "licence: column values to not be null"),
        (lambda table: table.assign(split="heldout"), "split: column values to be in set"),
    ],
    "stage6": [(lambda table: table.assign(captions=[[] for _ in range(len(table))]), "caption_count: column values to be between")],
}


def test_every_fault_of_a_manifest_fails_by_its_own_expectation(runs: Path) -> None:
    for stage, faults in SPOILED.items():
        for spoil, _ in faults:
            _change(runs / "curated" / f"{stage}.parquet", spoil)
    result = check_curated(runs, "smoke")
    expected = {f"{stage} {words}" for stage, faults in SPOILED.items() for _, words in faults}
    expected.add("stage1 weight: column sum to be between")  # of the rows that are there twice
    found = {line.split(" failed")[0] for line in result.failures if line.startswith("stage")}
    assert not result.success
    assert found == expected


def test_a_threshold_is_asked_of_the_rows_that_its_filter_judges(runs: Path) -> None:
    path = runs / "curated" / "stage4.parquet"
    _change(path, lambda table: table.assign(clip=-1.0, exempt=["clip,quality" if k % 2 else "quality" for k in range(len(table))]))
    funnel = json.loads((runs / "curated" / "funnel.json").read_text())
    funnel["stage4"]["thresholds"]["min_clip"] = 0.0
    (runs / "curated" / "funnel.json").write_text(json.dumps(funnel))
    table = pd.read_parquet(path)
    judged = ((table["role"] == "image") & (table["exempt"] == "quality")).sum()
    assert [line.split(" rows")[0] for line in check_curated(runs, "smoke").failures] == [f"stage4 clip: column values to be between failed for {judged}"]


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
