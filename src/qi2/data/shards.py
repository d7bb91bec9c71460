"""Rows, webdataset-compatible tar shards, and their parquet sidecar.

A shard holds, per row, the image file exactly as it came and its first caption (``ID.png``, ``ID.txt``). The sidecar has one line
per row with everything else, and the place of the image inside its shard, so that any image is read without the tar's index.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from PIL import Image, ImageOps

from qi2.core.errors import QI2Error

if TYPE_CHECKING:
    import pandas as pd

SIDECAR = "sidecar.parquet"


@dataclass(frozen=True)
class Row:
    """One image file with what is known about it."""

    id: str
    data: bytes
    extension: str  # without the dot
    captions: tuple[str, ...]
    source: str = "world"  # world, photo, synthetic, defect or user
    task: str = "t2i"  # t2i, ti2i (captions are instructions), or reference (input picture of a ti2i row, never a target)
    kind: str | None = None  # scene kind, edit kind, page_KIND, reference, or defect_NAME
    references: tuple[str, ...] = ()  # ids
    region: str | None = None  # JSON: cells that may change, a mask (edits/mask.py), or "background"
    split: str = "train"  # or heldout
    scene: str | None = None  # JSON of the scene that the picture shows
    edit: str | None = None  # JSON of the edit
    page: str | None = None  # JSON of the page of text that the picture shows (qi2.data.pages)
    licence: str = "CC0-1.0"
    origin: str = ""  # web address or file that it came from
    opt_out: bool = False  # its owner does not want it trained on; curation rejects it
    caption_kind: str = "general"


class TarShards:
    """Writes groups of files, which stay together, into ``shard-NNNN.tar`` files of ``size`` groups."""

    def __init__(self, folder: Path, size: int = 4096) -> None:
        self.folder, self.size = Path(folder), size
        self.groups = 0
        self._file: BinaryIO | None = None
        self._shard = ""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def add(self, files: Iterable[tuple[str, bytes]]) -> tuple[str, list[int]]:
        """Append files (name, bytes); returns the shard and where the bytes of each begin."""
        if self.groups % self.size == 0:
            self._next_shard()
        self.groups += 1
        return self._shard, [self._add_file(name, data) for name, data in files]

    def flush(self) -> None:
        """Let readers see all that was added."""
        if self._file:
            self._file.flush()

    def _next_shard(self) -> None:
        self._close()
        self._shard = f"shard-{self.groups // self.size:04d}.tar"
        self._file = open(self.folder / self._shard, "wb")  # noqa: SIM115

    def _close(self) -> None:
        """End the open shard as tar wants it: two empty blocks, filled up to a record."""
        if self._file:
            end = self._file.tell() + 2 * tarfile.BLOCKSIZE
            self._file.write(bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE))
            self._file.close()
            self._file = None

    def _add_file(self, name: str, data: bytes) -> int:
        """Append a file and return the offset of its bytes in the shard. Plain writing is five times as fast as ``TarFile.addfile``."""
        assert self._file is not None
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._file.write(info.tobuf(tarfile.USTAR_FORMAT))
        offset = self._file.tell()
        self._file.write(data + bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset


class ShardWriter:
    """Writes rows into tar shards of ``shard_rows`` rows, and the sidecar when the block ends without an error."""

    def __init__(self, folder: Path, shard_rows: int = 4096) -> None:
        self._shards = TarShards(folder, shard_rows)
        self._lines: list[dict[str, Any]] = []

    def __enter__(self) -> "ShardWriter":
        self._shards.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._shards.__exit__(kind, error, trace)
        if kind is None:
            self._write_sidecar()

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def lines(self) -> Sequence[Mapping[str, Any]]:
        """The sidecar's lines so far."""
        return self._lines

    @property
    def folder(self) -> Path:
        """Where the shards lie."""
        return self._shards.folder

    def flush(self) -> None:
        """Let readers see all rows that were added."""
        self._shards.flush()

    def add(self, row: Row) -> None:
        """Append one row."""
        files = ((f"{row.id}.{row.extension}", row.data), (f"{row.id}.txt", (row.captions[0] if row.captions else "").encode()))
        shard, offsets = self._shards.add(files)
        width, height, form = header(row.data)
        place = {"shard": shard, "offset": offsets[0], "length": len(row.data)}
        size = {"sha256": hashlib.sha256(row.data).hexdigest(), "width": width, "height": height, "format": form}
        known = {name: getattr(row, name) for name in _FROM_ROW}
        known |= {"captions": list(row.captions), "references": list(row.references)}
        self._lines.append(known | place | size)

    def _write_sidecar(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields = [(name, pa.list_(pa.string()) if name in _LISTS else pa.type_for_alias(_TYPES.get(name, "string"))) for name in COLUMNS]
        pq.write_table(pa.Table.from_pylist(self._lines, pa.schema(fields)), self._shards.folder / SIDECAR)


class Sidecar:
    """The table of a folder of shards, and its images by id."""

    def __init__(self, folder: Path, table: "pd.DataFrame") -> None:
        self.folder, self.table = Path(folder), table
        self._places = {
            name: {"id": name, "shard": shard, "offset": offset, "length": length}
            for name, shard, offset, length in zip(table["id"], table["shard"], table["offset"], table["length"], strict=True)
        }

    @staticmethod
    def load(folder: Path) -> "Sidecar":
        """Read the sidecar; raises QI2Error when the folder has none or one of another version."""
        import pandas as pd

        path = Path(folder) / SIDECAR
        if not path.exists():
            raise QI2Error(f"{path} does not exist; run the ingest stage, or point to a folder that it wrote")
        table = pd.read_parquet(path)
        if missing := [name for name in COLUMNS if name not in table]:
            raise QI2Error(f"{path} lacks the columns {', '.join(missing)}, so another version wrote it; run the ingest stage again")
        return Sidecar(folder, plain_nulls(table))

    def __len__(self) -> int:
        return len(self.table)

    def image(self, name: str, least: int = 0) -> Image.Image:
        """The image with this id, upright RGB; with ``least`` a large JPEG is decoded smaller, to sides of at least so many pixels."""
        if name not in self._places:
            raise QI2Error(f"{self.folder / SIDECAR} has no row {name}")
        return read_image(self.folder, self._places[name], least)


def plain_nulls(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table with None, which is false, in place of pandas' missing text, which is true; and with plain lists."""
    for name in set(table) & set(_NULLABLE):
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    for name in set(table) & _LISTS:
        table[name] = table[name].map(list)
    return table


def read_bytes(folder: Path, row: Mapping[str, Any]) -> bytes:
    """The image file of a sidecar row exactly as it came; ``row`` needs shard, offset and length."""
    with open(Path(folder) / row["shard"], "rb") as handle:
        handle.seek(int(row["offset"]))
        return handle.read(int(row["length"]))


def read_image(folder: Path, row: Mapping[str, Any], least: int = 0) -> Image.Image:
    """The image of a sidecar row as RGB, turned upright where EXIF says so, transparency over white.

    ``least``: pixels that its sides need; a JPEG that has many more is decoded by a power of two smaller, which is faster.
    Raises QI2Error that names the row when the file cannot be decoded; curation rejects such rows.
    """
    try:
        with Image.open(io.BytesIO(read_bytes(folder, row))) as image:
            if least:
                image.draft(None, (least, least))
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # decoders raise almost anything on damaged bytes
        reason = str(error).partition(" <_io.")[0]  # Pillow names the buffer by its address, which is another one every time
        raise QI2Error(f"image {row.get('id', '?')} in {Path(folder) / row['shard']} cannot be decoded: {reason}; curate first") from error


def region_json(region: tuple[tuple[int, int], ...] | str) -> str:
    """The region column: a JSON list of [row, col], or the JSON text ``"background"``."""
    return json.dumps(region)


def header(data: bytes) -> tuple[int, int, str]:
    """Width, height and format by the file's header; zeros and an empty name where it cannot be read."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.width, image.height, str(image.format)
    except Exception:  # decoders raise almost anything on damaged bytes
        return 0, 0, ""


def _rgb(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


COLUMNS = (
    "id", "shard", "offset", "length", "sha256", "width", "height", "format", "captions", "caption_kind", "source", "task",
    "references", "region", "kind", "split", "scene", "edit", "page", "licence", "origin", "opt_out",
)  # fmt: skip
_TYPES = {"offset": "int64", "length": "int64", "width": "int64", "height": "int64", "opt_out": "bool"}  # all others: text
_NULLABLE = ("region", "kind", "scene", "edit", "page")
_LISTS = frozenset({"captions", "references"})
_FROM_ROW = ("id", "caption_kind", "source", "task", "region", "kind", "split", "scene", "edit", "page", "licence", "origin", "opt_out")
