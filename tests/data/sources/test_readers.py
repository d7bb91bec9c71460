"""Sources of every kind give the same rows, keep licence, origin and opt-out, and name the file and row that cannot be understood."""

import csv
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.data.config import DataConfig
from qi2.data.edits.mask import encode_mask, unusable
from qi2.data.ingest import ingest
from qi2.data.inspect import inspect
from qi2.data.shards import Sidecar
from qi2.data.sources import UserRow, read_source, source_kind
from qi2.data.world.defects import encode_jpeg, encode_png
from tests.data.test_ingest import Config

RED, BLUE = (encode_png(Image.new("RGB", (40, 40), color)) for color in ("red", "blue"))
RIGHTS = {"licence": "CC0-1.0", "url": "https://example.org/red", "opt_out": True}


def rows(source: Path) -> list[UserRow]:
    return list(read_source(source, source.parent / "cache"))


def _files(folder: Path) -> None:
    folder.mkdir()
    (folder / "red.png").write_bytes(RED)
    (folder / "blue.png").write_bytes(BLUE)


def write_csv(folder: Path) -> Path:
    _files(folder / "pictures")
    with open(folder / "own.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["image", "caption", "references", *RIGHTS])
        writer.writerow(["pictures/red.png", 'a "red", plain picture', "", *RIGHTS.values()])
        writer.writerow(["pictures/red.png", '["make it blue", "blue, please"]', '["pictures/blue.png"]', "", "", ""])
    return folder / "own.csv"


def write_metadata(folder: Path) -> Path:
    _files(folder / "set")
    first = {"file_name": "red.png", "text": 'a "red", plain picture', **RIGHTS}
    second = {"file_name": "red.png", "text": ["make it blue", "blue, please"], "references": ["blue.png"]}
    (folder / "set" / "metadata.jsonl").write_text("\n".join(map(json.dumps, (first, second))))
    return folder / "set"


def write_arrow(folder: Path) -> Path:
    (folder / "train").mkdir(parents=True)
    (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    first = {"image": {"bytes": RED, "path": "red.png"}, "captions": ['a "red", plain picture'], "references": [], **RIGHTS}
    second = {"image": {"bytes": RED, "path": "red.png"}, "captions": ["make it blue", "blue, please"], "references": [{"bytes": BLUE, "path": "blue.png"}]}
    table = pa.Table.from_pylist([first, second | {"licence": None, "url": None, "opt_out": False}])
    with pa.ipc.new_stream(str(folder / "train" / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    return folder


def write_hub(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    first = {"image": {"bytes": RED, "path": "red.png"}, "captions": ['a "red", plain picture'], "references": [], **RIGHTS}
    second = {"image": {"bytes": RED, "path": "red.png"}, "captions": ["make it blue", "blue, please"], "references": [{"bytes": BLUE, "path": "blue.png"}]}
    for index, row in enumerate((first, second)):
        pq.write_table(pa.Table.from_pylist([row]), folder / "data" / f"train-0000{index}.parquet")
    return folder


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


MEMBERS = [
    ("a/red.png", RED), ("a/red.txt", b'a "red", plain picture\n'), ("a/red.json", json.dumps(RIGHTS).encode()),
    ("a/edit.png", RED), ("a/edit.ref0.png", BLUE), ("a/edit.json", b'{"captions": ["make it blue", "blue, please"]}'),
]  # fmt: skip


def write_shards(folder: Path) -> Path:
    folder.mkdir()
    write_tar(folder / "000.tar", MEMBERS[:3])
    write_tar(folder / "001.tar.gz", MEMBERS[3:])
    return folder


@pytest.mark.parametrize("write", [write_csv, write_metadata, write_arrow, write_hub, write_shards])
def test_every_kind_of_source_gives_the_same_rows(write, tmp_path: Path) -> None:
    first, second = rows(write(tmp_path / "mine") if write not in (write_csv, write_metadata) else write(_made(tmp_path / "mine")))
    assert (first.data, first.suffix, first.captions) == (RED, ".png", ('a "red", plain picture',))
    assert (first.licence, first.origin, first.opt_out) == ("CC0-1.0", "https://example.org/red", True)
    assert (second.data, second.captions) == (RED, ("make it blue", "blue, please"))
    assert second.references == ((BLUE, ".png"),)
    assert (second.licence, second.opt_out) == ("", False)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _masked(color: str, size: tuple[int, int] = (40, 40)) -> bytes:
    """White in its upper left quarter."""
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1] // 2))
    return encode_png(mask.convert(color))


def test_a_mask_reaches_the_sidecar_as_our_own_edits_have_it_and_a_useless_one_its_reason(tmp_path: Path) -> None:
    _files(tmp_path / "set")
    masks = {"l": _masked("L"), "rgb": _masked("RGB"), "bit": _masked("1"), "wide": _masked("L", (80, 40)), "bad": b"no picture"}
    masks["black"] = encode_png(Image.new("L", (40, 40), 3))
    for name, data in masks.items():
        (tmp_path / "set" / f"{name}.png").write_bytes(data)
    line = {"image": "red.png", "caption": "make it red", "references": ["blue.png"]}
    lines = [line, *(line | {"mask": f"{name}.png"} for name in ("l", "rgb", "bit", "wide", "bad", "black", "gone"))]
    lines.append({"image": "red.png", "caption": "no edit", "mask": ["l.png"]})
    (tmp_path / "set" / "own.jsonl").write_text("\n".join(map(json.dumps, lines)))
    ingest(Config(data=DataConfig(source=str(tmp_path / "set" / "own.jsonl"))), tmp_path / "raw", NullReporter())
    regions = Sidecar.load(tmp_path / "raw").table.query("task != 'reference'")["region"].tolist()
    expected = encode_mask(Image.open(io.BytesIO(masks["l"])))
    assert regions[:4] == [None, expected, expected, expected] and regions[-1] is None
    reasons = ["80 x 40 pixels and its picture 40 x 40", "no picture that can be read", "no white pixel", "missing or empty"]
    assert all(reason in str(unusable(region)) for reason, region in zip(reasons, regions[4:8], strict=True))


def test_a_mask_lies_beside_its_edit_in_a_shard_and_is_turned_upright_like_it(tmp_path: Path) -> None:
    picture, mask = Image.new("RGB", (40, 60), "red"), Image.open(io.BytesIO(_masked("RGB", (60, 40))))
    target = encode_jpeg(picture, 90, orientation=6)
    shard = write_tar(tmp_path / "s.tar", [("e.jpg", target), ("e.txt", b"make it red"), ("e.ref0.png", BLUE), ("e.mask.png", encode_png(mask))])
    ingest(Config(data=DataConfig(source=str(shard))), tmp_path / "raw", NullReporter())
    table = Sidecar.load(tmp_path / "raw").table
    assert len(table) == 2 and table["region"].iloc[1] == encode_mask(mask.convert("L"))
    assert inspect(str(shard), tmp_path / "cache", 0, 1)[0].masks == 1


def test_rights_reach_the_sidecar(tmp_path: Path) -> None:
    data = DataConfig(source=str(write_shards(tmp_path / "mine")), heldout_fraction=0.0, licence="mine")
    ingest(Config(data=data), tmp_path / "raw", NullReporter())
    table = Sidecar.load(tmp_path / "raw").table
    assert table["licence"].tolist() == ["CC0-1.0", "mine", "mine"]
    assert table["opt_out"].tolist() == [True, False, False]
    assert table["origin"].iloc[0] == "https://example.org/red"
    assert table["origin"].iloc[2].endswith("001.tar.gz:a/edit")


def test_a_shard_with_hostile_names_is_only_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "bad.tar", [("../../up.png", RED), ("/etc/passwd.png", BLUE), ("../../up.png", BLUE), ("twice.png", RED), ("twice.png", BLUE)])
    before = sorted(tmp_path.iterdir())
    assert [row.data for row in rows(path)] == [RED, BLUE, BLUE, RED, BLUE]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("cut", [900, 2000])
def test_a_shard_that_was_cut_off_is_named_with_its_last_file(tmp_path: Path, cut: int) -> None:
    path = write_tar(tmp_path / "cut.tar", [("one.png", RED), ("two.png", RED * 20)])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(QI2Error, match="cut.tar is damaged after"):
        rows(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("own.csv", "image,caption\na.png,one,two\n", "line 2 has 1 fields more"),
        ("own.csv", "picture,words\na.png,one\n", "line 2 has none of the keys"),
        ("own.jsonl", '{"image": "a.png", "caption": 3}', "line 1: the caption is 3"),
    ],
)
def test_a_line_that_cannot_be_understood_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(QI2Error, match=message):
        rows(tmp_path / name)


def test_half_characters_of_json_become_question_marks(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"image": "a\\u0000.png", "caption": "half \\ud83d one"}')
    (row,) = rows(tmp_path / "own.jsonl")
    assert (row.data, row.captions) == (b"", ("half ? one",))


def test_what_lies_in_a_folder_says_its_kind(tmp_path: Path) -> None:
    assert source_kind(write_shards(tmp_path / "s")) == "shards"
    assert source_kind(write_arrow(tmp_path / "a")) == "arrow"
    assert source_kind(write_hub(tmp_path / "h")) == "tables"
    (tmp_path / "empty").mkdir()
    with pytest.raises(QI2Error, match="no images, no tar shards and no tables"):
        source_kind(tmp_path / "empty")


def test_inspect_counts_without_writing(tmp_path: Path) -> None:
    source = write_shards(tmp_path / "mine")
    write_tar(source / "002.tar", [("broken.png", b"no picture"), ("red.png", RED)])
    found, page = inspect(str(source), tmp_path / "cache", 0, 6)
    assert (found.rows, found.edits, found.opted_out, found.without_caption, found.identical) == (4, 1, 1, 2, 2)
    assert found.formats == {"PNG": 3, "unreadable": 1}
    assert found.licences == {"CC0-1.0": 1, "none stated": 3}
    assert page.getpixel((8 + 80, 8 + 80)) == (255, 0, 0)
    assert not (tmp_path / "cache").exists()
