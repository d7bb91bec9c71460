"""Encoding while training: an `EncodedSet` that keeps no latents and no hidden states, but computes those of each batch (``encode.online``).

Folder: rows.parquet as of a cached set, row for row, so that a training draws the same samples and noise; texts.parquet (all prompts, with their
references), images.parquet (the images' names, and their bucket at every size), versions.json, and online.json: where the shards, the VAE and the condition
encoder lie, relative to the folder, and the shards' hashes. What is not what the folder was made with is refused. A batch's numbers are rounded
as stored ones are; they differ from those by what frozen networks make of another company in their batch, which is rounding.
"""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.core.publish import file_sha256
from qi2.data.shards import SIDECAR, Sidecar
from qi2.models.condition import ConditionEncoder
from qi2.models.condition_cache import CachedEncoder
from qi2.models.sequence import EncodedPrompt
from qi2.models.storage import device_of
from qi2.models.vae import VAE
from qi2.training.config import EncodeConfig
from qi2.training.encoded import EMPTY, ONLINE, VERSIONS, EncodedSet, Sample
from qi2.training.pictures import BATCH, Box, Pictures, chunks, features_of, latents_of, pass_size
from qi2.training.versions import check

TEXTS, IMAGES = "texts.parquet", "images.parquet"
Shown = list[tuple[int, int]]  # references of a prompt: image and size


def write_online(
    folder: Path, out: Path, settings: EncodeConfig, sets: dict[int, Sidecar], models: dict[str, Path], names: Sequence[str], shapes: dict[int, list[Box]],
    texts: Sequence[str], shown: Sequence[Shown],
) -> None:  # fmt: skip
    """Write what such a set has instead of latents and hidden states. out: where ``folder`` will lie; shapes: per size, the images' boxes."""
    pd.DataFrame({"text": texts, "images": [[i for i, _ in own] for own in shown], "sizes": [[s for _, s in own] for own in shown]}).to_parquet(folder / TEXTS)
    boxes = {f"box_{size}": [list(box) for box in own] for size, own in shapes.items()}
    pd.DataFrame({"name": list(names), **boxes}).to_parquet(folder / IMAGES)
    shards = [{"stage": stage, "folder": _from(out, side.folder), "sha256": file_sha256(side.folder / SIDECAR)} for stage, side in sets.items()]
    places = {name: _from(out, path) for name, path in models.items()}
    (folder / ONLINE).write_text(json.dumps({"device": settings.device, "cache": settings.cache, "models": places, "shards": shards}, indent=1))


class OnlineMaps:
    """Latents at one size, or vision features, as `LatentStore` gives them: (C, h, w) by the image's index."""

    def __init__(self, read: Callable[[list[Image.Image]], Tensor], pictures: Pictures, size: int, boxes: list[Box], channels: int) -> None:
        self.read, self.pictures, self.size, self.boxes, self.channels = read, pictures, size, boxes, channels

    def has(self, i: int) -> bool:
        """Whether any sample needs image i at this size."""
        return self.boxes[i] != (0, 0)

    def many(self, images: Sequence[int]) -> dict[int, Tensor]:
        """Those of one box together, rounded as they would be stored."""
        found: dict[int, Tensor] = {}
        for box in sorted({self.boxes[i] for i in images}):
            for part in chunks([i for i in dict.fromkeys(images) if self.boxes[i] == box], pass_size(box)):
                values = self.read([self.pictures(i, self.size) for i in part]).half().float()
                found |= dict(zip(part, values, strict=True))
        return found

    def __getitem__(self, i: int) -> Tensor:
        return self.many([i])[i]


class OnlinePrompts:
    """Hidden states of the prompts, as `PromptStore` gives them. The empty one, which every batch may need, is kept."""

    def __init__(self, encoder: ConditionEncoder | CachedEncoder, texts: list[str], shown: list[Shown], pictures: Pictures, lock: Any) -> None:
        self.encoder, self.texts, self.shown, self.pictures, self.lock = encoder, texts, shown, pictures, lock
        self._empty = self.many([EMPTY])[EMPTY]

    def __len__(self) -> int:
        return len(self.texts)

    def many(self, prompts: Sequence[int]) -> dict[int, EncodedPrompt]:
        """By index, rounded as they would be stored."""
        chosen = list(dict.fromkeys(prompts))
        with self.lock:
            pictures = [[self.pictures(image, size) for image, size in self.shown[i]] for i in chosen]
            made = self.encoder.encode([self.texts[i] for i in chosen], pictures, BATCH)
        return {i: EncodedPrompt(own.text.half().float(), own.layout) for i, own in zip(chosen, made, strict=True)}

    def __getitem__(self, i: int) -> EncodedPrompt:
        return self._empty if i == EMPTY else self.many([i])[i]


class OnlineSet(EncodedSet):
    """The samples of a folder that stage `encode` wrote with ``encode.online``. Raises QI2Error where what it reads is not what it was made with."""

    online = True

    def __init__(self, folder: Path, features: bool = False) -> None:
        self._read_rows(folder)
        made = json.loads((self.folder / ONLINE).read_text())
        encoder, vae = self._models(made)
        self.version += file_sha256(self.folder / VERSIONS)  # there are no stored numbers that could tell
        images, texts = pd.read_parquet(self.folder / IMAGES), pd.read_parquet(self.folder / TEXTS)
        sizes = [int(str(name).removeprefix("box_")) for name in images if name != "name"]
        pictures, self.lock = Pictures(images["name"].tolist(), self._shards(made), sizes), RLock()
        boxes = {size: [(int(width), int(height)) for width, height in images[f"box_{size}"]] for size in sizes}
        read, channels = partial(latents_of, vae), vae.cfg.latent_channels
        self.latents = {size: OnlineMaps(read, pictures, size, own, channels) for size, own in boxes.items()}  # type: ignore[misc]
        seen, width = partial(features_of, encoder), encoder.vision_width
        self.features = {size: OnlineMaps(seen, pictures, size, own, width) for size, own in boxes.items()} if features else {}  # type: ignore[misc]
        shown = [[(int(i), int(size)) for i, size in zip(*own, strict=True)] for own in zip(texts["images"], texts["sizes"], strict=True)]
        kept = CachedEncoder(encoder, Path(made["cache"])) if made["cache"] else encoder
        self.prompts = OnlinePrompts(kept, texts["text"].tolist(), shown, pictures, self.lock)  # type: ignore[assignment]
        self._index()

    def _models(self, made: dict[str, Any]) -> tuple[ConditionEncoder, VAE]:
        vlm, vae = ((self.folder.resolve() / made["models"][name]).resolve() for name in ("vlm", "vae"))
        encoder, autoencoder = ConditionEncoder.load(vlm, made["device"]), VAE.load(vae).requires_grad_(False).to(device_of(made["device"]))
        check(self.folder, autoencoder, encoder)
        return encoder, autoencoder

    def _shards(self, made: dict[str, Any]) -> dict[int, Sidecar]:
        sides = {}
        for entry in made["shards"]:
            side = (self.folder.resolve() / entry["folder"]).resolve()
            if not (side / SIDECAR).exists() or file_sha256(side / SIDECAR) != entry["sha256"]:
                raise QI2Error(
                    f"{self.folder} encodes while training and reads {side}, which is missing or another now; run the stages `datasets` and `encode`"
                )
            sides[entry["stage"]] = Sidecar.load(side)
        return sides

    def samples(self, rows: Sequence[int], size: int, draws: Sequence[np.random.Generator]) -> list[Sample]:
        """A batch in one pass through each network for every box, and one through the condition encoder. Other threads wait."""
        chosen = [self.choose(row, size, draw) for row, draw in zip(rows, draws, strict=True)]
        with self.lock:
            latents = self._maps(self.latents, [place for own in chosen for place in ((own.image, size), *own.references)])
            features = self._maps(self.features, [(own.image, size) for own in chosen]) if self.features else {}
            prompts = self.prompts.many([own.prompt for own in chosen])  # type: ignore[attr-defined]
        return [
            Sample(own.row, self._task[own.row], own.prompt, latents[own.image, size], [latents[place] for place in own.references],
                   features.get((own.image, size)), prompts[own.prompt])
            for own in chosen
        ]  # fmt: skip

    def _maps(self, stores: Any, places: Shown) -> dict[tuple[int, int], Tensor]:
        """By image and size."""
        found: dict[tuple[int, int], Tensor] = {}
        for size in sorted({size for _, size in places}):
            found |= {(i, size): values for i, values in stores[size].many([i for i, own in places if own == size]).items()}
        return found

    def sample(self, row: int, size: int, rng: np.random.Generator) -> Sample:
        return self.samples([row], size, [rng])[0]


def _from(out: Path, path: Path) -> str:
    """A path as ``out`` will see it."""
    return os.path.relpath(Path(path).resolve(), Path(out).resolve())
