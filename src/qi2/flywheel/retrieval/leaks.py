"""Nothing of a held-out set may enter training: what is refused, and why (report 2.4; the report trusts review, we check before and after it).

Held out are the rows of the split ``heldout``, the prompts and scenes of the run's evaluation, and signals of suites. A candidate is refused for a picture
with the same bytes or pixels, for one that is the same once shifted, re-encoded, resized or slightly cut (`filters.near`, `filters.hamming`), for the same
prompt or the same words, and on the world for the same scene and for whatever the split keeps from training.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.filters.alignment import SIDE, coarse, matches, thumbnail, unpack
from qi2.data.filters.hamming import links_between
from qi2.data.filters.phash import LOW, phash
from qi2.data.shards import SIDECAR, Sidecar, read_image
from qi2.data.world.edits import Edit
from qi2.data.world.scene import Scene
from qi2.data.world.split import HELDOUT_COMBOS, HELDOUT_WORDS, is_heldout

RADIUS, LAYOUT, DETAIL = 0.12, 0.24, 0.9  # of coarse thumbnails (curation's radius is for a million pictures), and curation's limits of an aligned pair
BITS = 10  # of the 64 of a photograph's hash
CUTS = (0.0, 0.03, 0.06)  # of every side of a held-out picture: a copy may be cut
WORD = re.compile(r"\w+")
ARTICLES = frozenset({"a", "an", "the", "of", "is", "are", "there", "image", "picture", "and", "with"})
Picture = Callable[[str], Image.Image]


class Sample(Protocol):
    """What is checked: a review candidate, or anything like one."""

    @property
    def id(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def references(self) -> tuple[str, ...]: ...
    @property
    def truth(self) -> str: ...


@dataclass(frozen=True)
class Refusal:
    """Why a candidate may not enter training; at least one reason."""

    id: str
    reasons: tuple[str, ...]


class HeldOut:
    """All that may not enter training; ``world``: whether the split of the world's combinations and words holds."""

    def __init__(self, world: bool = False) -> None:
        self.world = world
        self.prompts: set[str] = set()
        self.bags: set[tuple[str, ...]] = set()
        self.looks: set[str] = set()
        self.pixels: dict[str, str] = {}
        self._thumbnails: list[bytes] = []
        self._names: list[str] = []
        self._seen: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None = None

    @staticmethod
    def open(runs: Path, signals: Iterable[Any] = (), picture: Picture | None = None, pictures: bool = True) -> "HeldOut":
        """The held-out rows of ``runs/raw`` if there, the items of ``runs/evaluate``, and signals that are held out or whose person did not allow training.

        ``pictures``: whether those of the rows are looked at, which takes seconds; prompts alone are compared without.
        """
        held = HeldOut()
        if (Path(runs) / "raw" / SIDECAR).exists():
            held._rows(Sidecar.load(Path(runs) / "raw"), pictures)
        for item in _evaluated(Path(runs) / "evaluate" / "results.json"):
            held.text(item["prompt"])
        for signal in signals:
            if signal.heldout or signal.consent == "diagnosis":
                if signal.task == "t2i":
                    held.text(signal.prompt)
                held.truth(signal.truth)
                for name in signal.pictures if picture else ():
                    held.picture(picture(name), f"signal {signal.id[:12]}")  # type: ignore[misc]
        return held

    def _rows(self, side: Sidecar, pictures: bool) -> None:
        self.world = bool((side.table["source"] == "world").any())
        for row in side.table[side.table["split"] == "heldout"].to_dict("records"):
            try:
                if pictures:
                    self.picture(read_image(side.folder, {str(k): v for k, v in row.items()}), str(row["id"]))
            except QI2Error:
                continue  # what cannot be decoded cannot be copied either
            for text in row["captions"] if row["task"] == "t2i" else []:
                self.text(text)
            self.truth(row["edit"] or row["scene"] or "")

    def text(self, prompt: str) -> None:
        """Hold out a prompt."""
        self.prompts.add(normal(prompt))
        self.bags.add(bag(prompt))

    def truth(self, text: str) -> None:
        """Hold out what a scene, or an edit's target, looks like."""
        for scene in scenes(text)[:1]:
            self.looks.add(look(scene))

    def picture(self, image: Image.Image, name: str) -> None:
        """Hold out a picture, also cut a little."""
        self.pixels[pixel_hash(image)] = name
        for cut in CUTS:
            self._thumbnails.append(thumbnail(_cut(image, cut)))
            self._names.append(name)

    def check(self, candidates: Sequence[Sample], picture: Picture) -> list[Refusal]:
        """The refused ones, with all reasons; what is not in the list may enter training. ``picture``: by sha256."""
        return [Refusal(one.id, reasons) for one in candidates if (reasons := tuple(self.reasons(one, picture)))]

    def reasons(self, one: Sample, picture: Picture) -> list[str]:
        """Everything against one candidate."""
        shown = scenes(one.truth)
        found = self.of_text(one.task, one.prompt, bool(shown))
        if shown and look(shown[0]) in self.looks:
            found.append("it shows the same scene as a held-out sample")
        if self.world and any(is_heldout(scene) for scene in shown):
            found.append("its scene has a combination, word or face that the split holds out")
        for sha in (one.target, *one.references):
            found += self._of_picture(picture(sha), bool(shown))
        return list(dict.fromkeys(found))

    def of_text(self, task: str, prompt: str, known: bool) -> list[str]:
        """Everything against a prompt; ``known``: the scene that it asks for is, and is compared itself."""
        found = []
        if task == "t2i" and normal(prompt) in self.prompts:
            found.append("its prompt is held out")
        elif task == "t2i" and not known and bag(prompt) in self.bags:
            found.append("its prompt has the words of a held-out one")
        if self.world and (said := named(prompt)):
            found.append(f"its prompt names {said}, which the split holds out")
        return found

    def _of_picture(self, image: Image.Image, drawn: bool) -> list[str]:
        if name := self.pixels.get(pixel_hash(image)):
            return [f"its picture has the pixels of {name}"]
        if not self._thumbnails:
            return []
        held, small, hashes = self._held()
        own = unpack([thumbnail(image)])
        near = np.flatnonzero(np.sqrt(((small - coarse(own)) ** 2).mean(1)) <= RADIUS)
        if len(near):
            both = np.concatenate([own, held[near]])
            same = matches(both, np.zeros(len(near), int), 1 + np.arange(len(near)), LAYOUT, DETAIL)
            if same.any():
                return [f"its picture is nearly that of {self._names[int(near[same][0])]}"]
        if not drawn:  # signs of frequencies mean nothing in drawings with plain areas (`filters.alignment`)
            rows = links_between(hashes, phash(own)[:, : LOW // 8], BITS)[0]
            if len(rows) and _busy(own):
                return [f"its picture has nearly the perceptual hash of {self._names[int(rows[0])]}"]
        return []

    def _held(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._seen is None or self._seen[0] != len(self._thumbnails):
            held = unpack(self._thumbnails)
            self._seen = len(held), held, coarse(held), phash(held)[:, : LOW // 8]
        return self._seen[1:]


def normal(prompt: str) -> str:
    """A prompt without case, punctuation and spacing."""
    return " ".join(WORD.findall(prompt.lower()))


def bag(prompt: str) -> tuple[str, ...]:
    """Its words in alphabetical order, without articles."""
    return tuple(sorted(word for word in WORD.findall(prompt.lower()) if word not in ARTICLES))


def named(prompt: str) -> str:
    """The first held-out combination or word of the world that a prompt names; empty for none."""
    text = f" {normal(prompt)} "
    combos = [f"{color} {shape}" for color, shape in sorted(HELDOUT_COMBOS)]
    said = [combo for combo in combos if f" {combo} " in text or f" {combo}s " in text]
    return next(iter([*said, *sorted(HELDOUT_WORDS.intersection(WORD.findall(prompt)))]), "")


def scenes(truth: str) -> list[Scene]:
    """The scenes of a truth, the target first; none where there is no truth."""
    if not truth:
        return []
    if "references" in json.loads(truth):
        edit = Edit.from_json(truth)
        return [edit.target, *edit.references]
    return [Scene.from_json(truth)]


def look(scene: Scene) -> str:
    """What a scene shows, whatever it is called."""
    items = sorted(map(repr, scene.objects))
    return repr((scene.grid, scene.background, scene.texture, items, scene.words, scene.portrait, scene.layout, scene.damage))


def pixel_hash(image: Image.Image) -> str:
    """Hash of size and RGB pixels, whatever the file was."""
    plain = image.convert("RGB")
    return hashlib.sha256(repr(plain.size).encode() + plain.tobytes()).hexdigest()


def _cut(image: Image.Image, share: float) -> Image.Image:
    left, top = image.width * share, image.height * share
    plain = image.convert("RGB")
    return plain.resize((SIDE * 2, SIDE * 2), Image.Resampling.BOX, (left, top, image.width - left, image.height - top)) if share else plain


def _busy(thumbnails: np.ndarray) -> bool:
    """Whether a picture has contrast enough for its hash to say something."""
    return bool(thumbnails.astype(np.float32).std((2, 3)).max() >= 12)


def _evaluated(path: Path) -> list[dict[str, Any]]:
    """The T2I prompts of an evaluation, of every model the same ones."""
    if not path.exists():
        return []
    return [item for item in json.loads(path.read_bytes()).get("t2i", {}).get("items", []) if isinstance(item.get("prompt"), str)]
