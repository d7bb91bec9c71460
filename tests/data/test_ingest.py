"""Ingest: whole, deterministic, split, and honest about bad files."""

import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.publish import verify
from qi2.core.reporter import FileReporter, NullReporter
from qi2.data.config import DataConfig
from qi2.data.ingest import ingest
from qi2.data.photos import PHOTOS, photo_crops
from qi2.data.shards import Row, ShardWriter, Sidecar, read_bytes, read_image
from qi2.data.sources import fingerprint
from qi2.data.world.checker import check
from qi2.data.world.defects import encode_jpeg, encode_png
from qi2.data.world.edits import Edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import Scene
from qi2.data.world.split import is_heldout


@dataclass
class Config:
    """What ingest reads of the recipe."""

    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)


def _small(**changes: object) -> Config:
    values: dict[str, object] = {"image_size": 64, "world_images": 120, "rich_images": 12, "rich_sizes": [64, 96], "edit_pairs": 30}
    values |= {"photo_crops": 12, "photo_sizes": [64, 128], "heldout_images": 16, "heldout_edits": 7, "heldout_crops": 6}
    return Config(data=DataConfig(**(values | {"shard_rows": 64, "workers": 1} | changes)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ingest") / "raw"
    ingest(_small(), out, FileReporter(out.parent / "report"))
    return out


def _files(shard: Path) -> int:
    with tarfile.open(shard) as handle:
        return len(handle.getnames())


def test_folder_is_published_whole(raw: Path) -> None:
    assert set(verify(raw)) >= {"sidecar.parquet", "shard-0000.tar", "metrics.json"}
    rows = json.loads((raw / "metrics.json").read_text())["ingest/rows"]
    assert rows == len(Sidecar.load(raw)) == sum(_files(path) // 2 for path in raw.glob("*.tar"))
    assert list((raw.parent / "report" / "images").glob("ingest_world*"))


def test_sidecar_points_at_the_bytes(raw: Path) -> None:
    table = Sidecar.load(raw).table
    row = table.iloc[70].to_dict()
    with tarfile.open(raw / row["shard"]) as shard:
        name = next(name for name in shard.getnames() if name.startswith(f"{row['id']}.") and not name.endswith(".txt"))
        assert shard.extractfile(name).read() == read_bytes(raw, row)  # type: ignore[union-attr]


def test_rows_show_what_their_scene_says(raw: Path) -> None:
    sidecar = Sidecar.load(raw)
    for row in sidecar.table[sidecar.table["source"] == "world"].to_dict("records"):
        assert len(row["captions"]) == 3
        assert check(read_image(raw, row), Scene.from_json(row["scene"]))["all"]


def test_edit_rows_have_their_references_and_region(raw: Path) -> None:
    sidecar = Sidecar.load(raw)
    edits = sidecar.table[sidecar.table["task"] == "ti2i"]
    assert len(edits) == 37
    for row in edits.to_dict("records"):
        edit = Edit.from_json(row["edit"])
        assert json.loads(row["region"]) == (edit.region if isinstance(edit.region, str) else [list(cell) for cell in edit.region])
        shown = [check(sidecar.image(name), scene)["all"] for name, scene in zip(row["references"], edit.references, strict=True)]
        assert shown == [True] * len(edit.references)
    references = sidecar.table[sidecar.table["kind"] == "reference"]
    assert set(references["task"]) == {"reference"}
    assert set(references["id"]) == {name for names in edits["references"] for name in names}


def test_heldout_is_never_in_training(raw: Path) -> None:
    table = Sidecar.load(raw).table
    known = table[(table["split"] == "train") & table["scene"].notna()]
    assert not any(is_heldout(Scene.from_json(text)) for text in known["scene"])
    targets = table[(table["split"] == "heldout") & (table["task"] != "reference") & (table["source"] == "world")]
    assert all(is_heldout(Scene.from_json(text)) for text in targets["scene"])
    photos = table[table["source"] == "photo"]
    split = {photo.file.split(".")[0].replace("_", "-"): photo.split for photo in PHOTOS}
    assert all(split[name.removeprefix("photo-").rsplit("-", 1)[0]] == given for name, given in zip(photos["id"], photos["split"], strict=True))


def test_no_training_picture_comes_twice_except_planned_copies(raw: Path) -> None:
    table = Sidecar.load(raw).table
    drawn = table[(table["task"] == "t2i") & (table["source"] == "world")]
    assert drawn["sha256"].is_unique
    defects = table[table["source"] == "defect"]
    assert len(defects) == round(0.06 * 132)
    assert all(kind.startswith("defect_") for kind in defects["kind"])


def test_same_seed_gives_the_same_bytes_with_any_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: Path) -> None:
    monkeypatch.setattr("qi2.data.ingest.FEW", 0)
    monkeypatch.setattr("qi2.data.ingest.CHUNK", 50)
    ingest(_small(workers=2), tmp_path / "raw", NullReporter())
    assert verify(tmp_path / "raw") == verify(raw)
    other = _small()
    other.seed = 1
    ingest(other, tmp_path / "other", NullReporter())
    assert verify(tmp_path / "other")["sidecar.parquet"] != verify(raw)["sidecar.parquet"]


def test_photo_crops_vary_in_size_and_state_a_licence() -> None:
    crops = list(photo_crops(40, [64, 96, 128, 192, 256], 0, "train"))
    assert {crop.licence for crop in crops} <= {"CC0-1.0", "public-domain"}
    assert len({len(crop.data) for crop in crops}) > 20
    assert all(crop.captions for crop in crops)


def test_rotated_file_is_read_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 64), "white")
    image.paste((200, 0, 0), (0, 0, 32, 16))
    data = encode_jpeg(image.transpose(Image.Transpose.ROTATE_90), 95, orientation=6)
    with ShardWriter(tmp_path) as writer:
        writer.add(Row("a", data, "jpg", ("a",)))
        writer.add(Row("b", b"no image", "jpg", ("a",)))
    sidecar = Sidecar.load(tmp_path)
    upright = sidecar.image("a")
    assert upright.size == (32, 64)
    assert upright.getpixel((16, 4))[0] > 180  # type: ignore[index]
    assert upright.getpixel((16, 4))[1] < 60  # type: ignore[index]
    with pytest.raises(QI2Error, match="image b .* cannot be decoded"):
        sidecar.image("b")


def _own_images(folder: Path, n: int = 12) -> None:
    from qi2.core.rng import numpy_rng

    folder.mkdir()
    for index in range(n):
        scene = sample_scene(numpy_rng(9, "own", index), "two")
        (folder / f"{index:02d}.png").write_bytes(encode_png(render(scene, 80)))
        (folder / f"{index:02d}.txt").write_text(f"picture number {index}\nanother caption\n")


def test_own_folder_replaces_the_world_and_keeps_broken_files(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    _own_images(folder)
    (folder / "broken.jpg").write_bytes(b"not a picture")
    (folder / "alone.png").write_bytes((folder / "00.png").read_bytes())
    ingest(Config(data=DataConfig(source=str(folder), heldout_fraction=0.3, licence="MIT")), tmp_path / "raw", NullReporter())
    table = Sidecar.load(tmp_path / "raw").table
    assert set(table["source"]) == {"user"}
    assert len(table) == 14
    assert set(table["licence"]) == {"MIT"}
    assert {"train", "heldout"} == set(table["split"])
    broken = table[table["format"] == ""]
    assert list(broken["length"]) == [13]
    copies = table[table["sha256"].duplicated(keep=False)]
    assert len(copies) == 2
    assert copies["split"].nunique() == 1
    assert sorted(len(texts) for texts in table["captions"]) == [0, 0] + [2] * 12


def test_own_table_may_hold_edits_and_missing_files(tmp_path: Path) -> None:
    _own_images(tmp_path / "mine", 3)
    lines = [
        {"image": "mine/00.png", "caption": "one", "licence": "CC-BY-4.0"},
        {"image": "mine/gone.png", "caption": "two"},
        {"image": "mine/01.png", "caption": "make it so", "references": ["mine/02.png"]},
    ]
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    ingest(Config(data=DataConfig(source=str(tmp_path / "own.jsonl"), heldout_fraction=0.0)), tmp_path / "raw", NullReporter())
    table = Sidecar.load(tmp_path / "raw").table
    assert list(table["task"]) == ["t2i", "t2i", "reference", "ti2i"]
    assert list(table["licence"]) == ["CC-BY-4.0", "unknown", "unknown", "unknown"]
    assert table["references"].iloc[3] == [table["id"].iloc[2]]
    assert table["length"].iloc[1] == 0


def test_own_parquet_may_hold_the_bytes(tmp_path: Path) -> None:
    data = encode_png(Image.new("RGB", (8, 8), "red"))
    rows = [{"image": {"bytes": data, "path": "a.png"}, "text": "red"}, {"image": {"bytes": data, "path": None}, "text": "red too"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "own.parquet")
    ingest(Config(data=DataConfig(source=str(tmp_path / "own.parquet"))), tmp_path / "raw", NullReporter())
    assert list(Sidecar.load(tmp_path / "raw").table["format"]) == ["PNG", "PNG"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": "a.png", "caption": "a"}\nnot json', "line 2 is not JSON"),
        ('{"image": "a.png"}', "line 1 has none of the keys"),
        ("[1]", "line 1 is not an object"),
    ],
)
def test_bad_table_names_file_and_row(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(text)
    with pytest.raises(QI2Error, match=message):
        ingest(Config(data=DataConfig(source=str(path))), tmp_path / "raw", NullReporter())
    assert not (tmp_path / "raw").exists()


def test_missing_or_unknown_source_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "own.xyz").write_text("a,b")
    (tmp_path / "empty").mkdir()
    for source, message in (("gone", "does not exist"), ("own.xyz", "none of"), ("empty", "has no images")):
        with pytest.raises(QI2Error, match=message):
            ingest(Config(data=DataConfig(source=str(tmp_path / source))), tmp_path / "raw", NullReporter())


def test_unknown_kind_in_the_mix_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="data.world_mix has unknown kinds"):
        ingest(_small(world_mix={"three": 1.0}), tmp_path / "raw", NullReporter())


def test_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    _own_images(tmp_path / "mine", 2)
    before = fingerprint(tmp_path / "mine")
    assert before == fingerprint(tmp_path / "mine")
    (tmp_path / "mine" / "00.txt").write_text("a new caption")
    assert fingerprint(tmp_path / "mine") != before
    assert fingerprint("") == ""


def test_a_sidecar_of_another_version_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "shard": ["shard-0000.tar"]}), tmp_path / "sidecar.parquet")
    with pytest.raises(QI2Error, match="lacks the columns offset, .*run the ingest stage again"):
        Sidecar.load(tmp_path)
