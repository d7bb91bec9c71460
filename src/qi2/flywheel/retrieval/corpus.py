"""What a run is trained on, by text and by picture: the nearest rows of a prompt, and whether there are fewer of them than of prompts that succeed.

Report section 2.4: the engine diagnoses whether a failure is caused by scarcity, and finds what to generalise from. Training rows are those of the split
``train`` whose owners did not opt out and that are no planted defects; what opts out later leaves the index when it is opened next.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.pretrained import model_source
from qi2.core.progress import Progress
from qi2.data.shards import SIDECAR, Sidecar, read_image
from qi2.flywheel.retrieval.embed import Clip, Embedder, Hidden, Lexical
from qi2.flywheel.retrieval.index import VectorIndex
from qi2.training.accepted import SHARDS

if TYPE_CHECKING:
    import pandas as pd

BATCH = 1024  # rows that are embedded and stored together: what a kill costs at most
TEXTS = ("words", "clip", "vlm")
TEXT, PICTURE = "text", "picture"


@dataclass(frozen=True)
class Neighbour:
    """A training row near a query; ``by`` text or picture, ``similarity`` a cosine."""

    id: str
    similarity: float
    caption: str
    task: str
    kind: str
    by: str = TEXT


@dataclass(frozen=True)
class Scarcity:
    """How many training rows are like a prompt, beside prompts that succeed.

    ``within``: rows at least ``similarity`` alike; ``usual``: the median of that for prompts that succeed; ``nearest``: mean cosine of its nearest rows;
    ``percentile``: share of prompts that succeed, itself counted, whose nearest rows are no nearer. A small one is scarcity, with that chance of error.
    """

    prompt: str
    within: int
    usual: float
    similarity: float
    nearest: float
    percentile: float


class Corpus:
    """Training rows (id to sidecar row, with its ``folder``) and their indices; made by ``open``."""

    def __init__(self, rows: dict[str, dict[str, Any]], text: tuple[Embedder, VectorIndex], picture: tuple[Embedder, VectorIndex] | None) -> None:
        self.rows, self.text, self.picture = rows, text, picture

    @staticmethod
    def open(runs: Path, out: Path, text: str = "words", pictures: bool = True, extra: Sequence[Path] = (), device: str = "cpu") -> "Corpus":
        """Index what is new of ``runs/raw`` and of further folders of shards (accepted data), and forget what is gone; ``out`` keeps it beside the run.

        ``text``: words, clip or vlm. Raises QI2Error where there is nothing to train on.
        """
        if text not in TEXTS:
            raise QI2Error(f"flywheel retrieval knows no texts by {text!r}; choose one of {', '.join(TEXTS)}")
        runs, out = Path(runs), Path(out)
        out.mkdir(parents=True, exist_ok=True)
        rows = training_rows([runs / "raw", *map(Path, extra)])
        clip = Clip(model_source(runs / "standins" / "clip"), device) if pictures or text == "clip" else None
        chosen: Embedder = _lexical(rows, out) if text == "words" else clip if text == "clip" and clip else Hidden(runs / "standins" / "vlm", device)
        texts = _indexed(out / f"text-{chosen.identity}", chosen, rows, _text_key, lambda part: _mean_texts(chosen, part))
        shown = None
        if pictures and clip:
            shown = clip, _indexed(out / f"picture-{clip.identity}", clip, rows, _picture_key, lambda part: clip.images(_read(part)))
        return Corpus(rows, (chosen, texts), shown)

    def near(self, prompts: Sequence[str], images: Sequence[Image.Image | None] = (), k: int = 8) -> list[list[Neighbour]]:
        """Per prompt its ``k`` nearest rows by text, best first, then, where a picture is given with it, the ``k`` nearest by picture."""
        if images and len(images) != len(prompts):
            raise QI2Error(f"{len(prompts)} prompts came with {len(images)} pictures; give one or None for each, or none at all")
        found = [self._neighbours(*pair, TEXT) for pair in _search(self.text[1], self.text[0].texts(prompts), k)] if len(prompts) else []
        shown = [place for place, image in enumerate(images) if image is not None]
        if shown:
            if self.picture is None:
                raise QI2Error("this corpus was opened without pictures; open it with pictures=True")
            vectors = self.picture[0].images([image for image in images if image is not None])
            for place, pair in zip(shown, _search(self.picture[1], vectors, k), strict=True):
                found[place] += self._neighbours(*pair, PICTURE)
        return found

    def similarities(self, prompts: Sequence[str], k: int) -> list[tuple[float, ...]]:
        """Of the ``k`` nearest rows by text, best first: what attribution compares failing prompts with ordinary ones by."""
        return [tuple(one.similarity for one in row) for row in self.near(prompts, k=k)]

    def scarcity(self, failing: Sequence[str], succeeding: Sequence[str], k: int = 8) -> list[Scarcity]:
        """Per failing prompt how its neighbourhood compares with that of prompts that succeed. Raises QI2Error without any of those to compare with."""
        if not len(succeeding):
            raise QI2Error("scarcity is a comparison; give prompts at which the model succeeds")
        most = min(max(64, 8 * k), len(self.text[1]))
        cosines = [np.array(self.text[1].search(self.text[0].texts(prompts), most)[1]) for prompts in (failing, succeeding) if len(prompts)]
        if not len(failing):
            return []
        line = float(np.median(cosines[1][:, min(k, most) - 1]))
        nearest = [values[:, :k].mean(1) for values in cosines]
        within = [(values >= line).sum(1) for values in cosines]
        percentiles = [(1 + int((nearest[1] <= value).sum())) / (1 + len(succeeding)) for value in nearest[0]]
        usual = float(np.median(within[1]))
        facts = zip(failing, within[0], nearest[0], percentiles, strict=True)
        return [Scarcity(prompt, int(count), usual, line, float(mean), share) for prompt, count, mean, share in facts]

    def image(self, name: str) -> Image.Image:
        """The picture of a training row."""
        if name not in self.rows:
            raise QI2Error(f"{name!r} is no training row of this corpus")
        return read_image(Path(self.rows[name]["folder"]), self.rows[name])

    def _neighbours(self, names: Sequence[str], cosines: np.ndarray, by: str) -> list[Neighbour]:
        rows = [self.rows[name.rpartition("@")[0]] for name in names]
        facts = zip(rows, cosines, strict=True)
        return [Neighbour(row["id"], float(value), next(iter(row["captions"]), ""), row["task"], row["kind"] or "", by) for row, value in facts]


def accepted_shards(runs: Path) -> list[Path]:
    """The samples that earlier rounds have added to a run's training, as its stage `accepted` keeps them; none where there are none."""
    folder = Path(runs) / "accepted" / SHARDS
    return [folder] if (folder / SIDECAR).exists() else []


def training_rows(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Rows by id that training may read and that have a caption; reference pictures are not rows of their own."""
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        table = Sidecar.load(folder).table
        for row in table[_trained(table)].to_dict("records"):
            found[str(row["id"])] = {**{str(name): value for name, value in row.items()}, "folder": str(folder)}
    if not found:
        raise QI2Error(f"{', '.join(map(str, folders))} hold no captioned training row; run the ingest stage, or check opt_out and split")
    return found


def _trained(table: "pd.DataFrame") -> np.ndarray:
    usable = (table["split"] == "train") & ~table["opt_out"] & (table["source"] != "defect") & table["task"].isin(["t2i", "ti2i"])
    return np.asarray(usable & (table["captions"].map(len) > 0) & (table["width"] > 0))


def _lexical(rows: Mapping[str, Mapping[str, Any]], out: Path) -> Lexical:
    """The words' rarities, counted once: other rarities would be other vectors."""
    path = out / "words.json"
    if not path.exists():
        Lexical.fit([text for row in rows.values() for text in row["captions"]]).save(path)
    return Lexical.load(path)


def _indexed(folder: Path, embedder: Embedder, rows: Mapping[str, Any], key: Callable[[Any], str], embed: Callable[[Any], np.ndarray]) -> VectorIndex:
    """The index of all rows, of which only new and changed ones are embedded."""
    index, wanted = VectorIndex.open(folder, embedder.width), {f"{name}@{key(row)}": row for name, row in rows.items()}
    if gone := [name for name in index.ids if name not in wanted]:
        index.remove(gone)
    new = [name for name in wanted if name not in index]
    with Progress(f"embed {folder.name}", len(new), "rows", quiet=not new) as progress:
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            index.add(part, embed([wanted[name] for name in part]))
            progress.update(len(part))
    return index


def _text_key(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(list(row["captions"])).encode()).hexdigest()[:8]


def _picture_key(row: Mapping[str, Any]) -> str:
    return str(row["sha256"])[:8]


def _mean_texts(embedder: Embedder, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """A row's vector: the mean of its captions' unit vectors."""
    owner = np.repeat(np.arange(len(rows)), [len(row["captions"]) for row in rows])
    vectors = embedder.texts([text for row in rows for text in row["captions"]])
    total = np.zeros((len(rows), embedder.width), np.float32)
    np.add.at(total, owner, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return total


def _read(rows: Sequence[Mapping[str, Any]]) -> list[Image.Image]:
    """The rows' pictures; one that cannot be decoded becomes grey, so that it is near nothing."""
    found = []
    for row in rows:
        try:
            found.append(read_image(Path(row["folder"]), row))
        except QI2Error:
            found.append(Image.new("RGB", (64, 64), "grey"))
    return found


def _search(index: VectorIndex, vectors: np.ndarray, k: int) -> list[tuple[list[str], np.ndarray]]:
    names, cosines = index.search(vectors, k)
    return list(zip(names, cosines, strict=True))
