"""Curation of a small raw folder, end to end: everything counted, explained, shown, and the same with any number of processes."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from qi2.core.publish import verify
from qi2.core.reporter import FileReporter, NullReporter
from qi2.core.rng import numpy_rng
from qi2.data.curate import curate
from qi2.data.curate_config import STAGES, CurateConfig
from qi2.data.shards import Row, Sidecar
from qi2.data.world.defects import COPIES, DEFECTS, encode_png, hazard_image, make_defect
from qi2.data.world.edits import EDIT_KINDS, instructions, sample_edit
from qi2.data.world.render import render
from tests.data.conftest import Recipe, distinct_scenes, lenient_config, scene_row, write_raw

HANDLED_ELSEWHERE = {"wrong_caption"}  # needs a CLIP model that trained for longer than a test's does


def _edit_rows(n: int) -> list[Row]:
    rows: list[Row] = []
    for k in range(n):
        rng = numpy_rng(0, "tests/edit", k)
        edit = sample_edit(rng, EDIT_KINDS[k % len(EDIT_KINDS)])
        names = tuple(f"e{k}-{index}" for index in range(len(edit.references)))
        for name, scene in zip(names, edit.references, strict=True):
            rows.append(Row(name, encode_png(render(scene, 64)), "png", (), task="reference", kind="reference"))
        texts = tuple(instructions(edit, rng, 2))
        rows.append(Row(f"e{k}", encode_png(render(edit.target, 64)), "png", texts, task="ti2i", kind=edit.kind, references=names))
    return rows


def _defect_rows() -> list[Row]:
    scenes = distinct_scenes(90)
    rows = []
    for k, name in enumerate(DEFECTS):
        scene = scenes[5 * k % 60] if name in COPIES else scenes[60 + k]
        defect = make_defect(name, scene, numpy_rng(0, "tests/defect", k), 64)
        rows.append(Row(f"d-{name}", defect.data, defect.extension, defect.captions, "defect", kind=f"defect_{name}"))
    return rows


def _rows() -> list[Row]:
    train = [scene_row(f"w{k}", scene) for k, scene in enumerate(distinct_scenes(60))]
    heldout = [scene_row(f"h{k}", scene, "heldout") for k, scene in enumerate(distinct_scenes(6, split="heldout"))]
    return [*train, *heldout, *_edit_rows(14), *_defect_rows()]


@pytest.fixture(scope="module")
def curated(standins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curate")
    raw = write_raw(folder / "raw", _rows())
    curate(Recipe(curate=lenient_config()), raw, standins, folder / "curated", FileReporter(folder / "report"))
    return folder / "curated"


def _reasons(curated: Path) -> pd.DataFrame:
    return pd.read_parquet(curated / "scores.parquet").set_index("id")


def test_publishes_manifests_scores_funnel_metrics_and_pictures(curated: Path) -> None:
    files = set(verify(curated))
    assert files >= {"scores.parquet", "funnel.json", "metrics.json", *(f"{name}.parquet" for name in STAGES)}
    raw = Sidecar.load(curated.parent / "raw").table
    scores = pd.read_parquet(curated / "scores.parquet")
    assert set(scores["id"]) == set(raw["id"])
    manifest = pd.read_parquet(curated / "stage6.parquet")
    assert set(raw.columns) | {"clip", "nsfw", "entropy", "role"} <= set(manifest.columns)
    assert not any(column.startswith("reason_") for column in manifest.columns)


def test_in_is_kept_plus_rejected_and_manifests_agree(curated: Path) -> None:
    funnel = json.loads((curated / "funnel.json").read_text())
    metrics = json.loads((curated / "metrics.json").read_text())
    reasons = _reasons(curated)
    assert list(funnel) == list(STAGES)
    for name, stage in funnel.items():
        manifest = pd.read_parquet(curated / f"{name}.parquet")
        assert stage["in"] == stage["kept"] + sum(stage["rejected"].values())
        assert stage["kept"] == len(manifest) == reasons[f"reason_{name}"].isna().sum() == metrics[f"curate/{name}/kept"]
        assert set(manifest["split"]) == {"train"}
        assert set(manifest[manifest["role"] == "pair"]["references"].explode()) <= set(manifest["id"])


def test_the_card_tells_stages_sources_and_stand_ins(curated: Path) -> None:
    text = (curated / "README.md").read_text()
    funnel = json.loads((curated / "funnel.json").read_text())
    for name, stage in funnel.items():
        assert f"| {name} | {stage['in']} | {stage['kept']} |" in text
    assert "| world | t2i | CC0-1.0 |" in text
    assert "| world | ti2i | CC0-1.0 |" in text
    samples = {name for stage in STAGES for name in pd.read_parquet(curated / f"{stage}.parquet").query("role != 'reference'")["id"]}
    assert f"\n{len(samples)} of " in text
    assert text.count("a small stand-in, trained by this project") == 3
    columns = {name.strip() for line in text.splitlines() if line.startswith("| `") for name in line.split("`")[1].split(",")}
    assert set(pd.read_parquet(curated / "stage6.parquet").columns) - columns <= {"split", "scene", "edit", "broken"}


def test_planted_defects_are_rejected_and_good_rows_are_not(curated: Path) -> None:
    metrics = json.loads((curated / "metrics.json").read_text())
    recall = {name: metrics[f"curate/recall/{name}"] for name in set(DEFECTS) - HANDLED_ELSEWHERE}
    assert recall == dict.fromkeys(recall, 1.0)
    assert metrics["curate/good/rejected"] <= 0.03


def test_broken_files_are_counted_and_reported_not_fatal(curated: Path) -> None:
    broken = _reasons(curated).query("reason_stage1 == 'broken'")
    assert set(broken.index) == {"d-truncated", "d-corrupt", "d-not_an_image"}
    assert broken["broken"].str.len().min() > 5
    assert json.loads((curated / "metrics.json").read_text())["curate/reject/broken"] == 3


def test_rejected_pictures_are_shown_per_reason(curated: Path) -> None:
    shown = {path.stem.rpartition("_")[0] for path in (curated / "rejected").glob("*.png")}
    reasons = {name for name in _reasons(curated)["reason_stage6"].dropna() if name not in ("heldout", "not_admitted")}
    assert shown == reasons
    assert max(len(list((curated / "rejected").glob(f"{name}_*.png"))) for name in reasons) <= 2
    with Image.open(next((curated / "rejected").glob("near_duplicate_*.png"))) as pair:
        assert pair.width > 1.5 * pair.height / 2


def test_the_same_bytes_with_any_number_of_processes(curated: Path, standins: Path, lenient: CurateConfig, tmp_path: Path) -> None:
    lenient.workers = 2
    curate(Recipe(curate=lenient), curated.parent / "raw", standins, tmp_path / "again", NullReporter())
    assert verify(tmp_path / "again") == verify(curated)


def test_exempt_rows_stay_and_say_which_filters_do_not_judge_them(standins: Path, lenient: CurateConfig, tmp_path: Path) -> None:
    flat = [Row("flat", encode_png(Image.new("RGB", (64, 64), "red")), "png", (), task="reference")]
    edit = [Row("edit", encode_png(render(distinct_scenes(9)[8], 64)), "png", ("draw a scene",), task="ti2i", references=("flat",))]
    raw = write_raw(tmp_path / "raw", [*(scene_row(f"w{k}", scene) for k, scene in enumerate(distinct_scenes(8))), *flat, *edit])
    lenient.stage1.max_nsfw = None  # the small classifier knows no flat pictures
    curate(Recipe(curate=lenient), raw, standins, tmp_path / "judged", NullReporter(), tmp_path / "work")
    lenient.exempt = {"reference": ["entropy"]}
    curate(Recipe(curate=lenient), raw, standins, tmp_path / "spared", NullReporter(), tmp_path / "work")
    judged, spared = _reasons(tmp_path / "judged"), _reasons(tmp_path / "spared")
    assert judged["reason_stage2"][["flat", "edit"]].tolist() == ["entropy", "reference"]
    assert spared["reason_stage2"][["flat", "edit"]].isna().all()
    assert "exempt" not in judged and spared["exempt"].to_dict() == dict.fromkeys(spared.index, "") | {"flat": "entropy"}


def test_every_file_is_decoded_once(standins: Path, lenient: CurateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qi2.data import scoring

    decoded: list[int] = []
    real = scoring.decode
    monkeypatch.setattr(scoring, "decode", lambda data, *more: decoded.append(len(data)) or real(data, *more))
    lenient.examples = 0
    rows = _edit_rows(7)
    raw = write_raw(tmp_path / "raw", rows)
    curate(Recipe(curate=lenient), raw, standins, tmp_path / "curated", NullReporter())
    assert len(decoded) == Sidecar.load(raw).table["sha256"].nunique() <= len(rows)


def test_a_users_folder_without_kinds_or_planted_defects_is_curated(standins: Path, lenient: CurateConfig, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((80, 64), 0) for _ in range(8)]
    rows = [Row(f"u{k}", encode_png(image), "png", ("a picture of squares",), "user", licence="mine") for k, image in enumerate(pictures)]
    rows.append(Row("bare", encode_png(hazard_image(numpy_rng(0, "u"), 64)), "png", (), "user"))
    curate(Recipe(curate=lenient), write_raw(tmp_path / "raw", rows), standins, tmp_path / "curated", NullReporter())
    reasons = _reasons(tmp_path / "curated")["reason_stage6"]
    assert reasons.drop("bare").isna().sum() >= 7
    assert reasons["bare"] in ("nsfw", "token_length")
    assert not [name for name in json.loads((tmp_path / "curated" / "metrics.json").read_text()) if "recall" in name]
