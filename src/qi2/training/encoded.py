"""What MMDiT training, RL and distillation read: latents and condition features, computed once by stage `encode`.

Folder: rows.parquet (one line per sample), latents_SIZE.safetensors (tokens of all images that fill SIZE, each in its aspect bucket),
prompts.safetensors (hidden states of all prompts), versions.json (what they were made with); where wanted, features_SIZE.safetensors (the targets'
vision features, on the latents' grid). Tokens and hidden states lie one after the other and are read through a memory map. All of it comes from
frozen networks, so caching it changes nothing but time.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.core.publish import file_sha256
from qi2.models.sequence import Condition, EncodedPrompt, collate
from qi2.training.data_plan import TI2I, PlanRows
from qi2.training.flat import LatentStore, LatentWriter, mapped

IMAGE = -1  # marks an image in a stored layout
EMPTY = 0  # index of the empty prompt without images: the unconditional branch
ROWS, PROMPTS, VERSIONS = "rows.parquet", "prompts.safetensors", "versions.json"
LATENTS, FEATURES = "latents", "features"
ONLINE = "online.json"  # in a folder without latents and hidden states: `qi2.training.online`


class PromptStore:
    """All encoded prompts as flat arrays."""

    def __init__(self, path: Path) -> None:
        maps = mapped(path)
        self.path, self.text = path, maps["text"]
        self.text_at, self.layout, self.layout_at = (np.array(maps[name]) for name in ("text_at", "layout", "layout_at"))

    def __reduce__(self) -> tuple[type["PromptStore"], tuple[Path]]:
        return PromptStore, (self.path,)  # another process maps the file again

    def __len__(self) -> int:
        return len(self.text_at) - 1

    def length(self, i: int) -> int:
        """Text tokens of a prompt."""
        return int(self.text_at[i + 1] - self.text_at[i])

    def __getitem__(self, i: int) -> EncodedPrompt:
        layout = [None if n == IMAGE else n for n in self.layout[self.layout_at[i] : self.layout_at[i + 1]].tolist()]
        return EncodedPrompt(torch.from_numpy(self.text[self.text_at[i] : self.text_at[i + 1]].astype(np.float32)), layout)

    @staticmethod
    def pack(prompts: Sequence[EncodedPrompt]) -> dict[str, Tensor]:
        """Flat tensors; hidden states in fp16."""
        layouts = [[IMAGE if n is None else n for n in p.layout] for p in prompts]
        return {
            "text": torch.cat([p.text.half() for p in prompts]),
            "text_at": torch.tensor(np.cumsum([0] + [len(p.text) for p in prompts])),
            "layout": torch.tensor([n for layout in layouts for n in layout]),
            "layout_at": torch.tensor(np.cumsum([0] + [len(layout) for layout in layouts])),
        }


@dataclass
class Sample:
    """One training sample at one size: the prompt's index, target latents and reference latents, each (64, h, w).

    features (C, h, w): the target's vision features, where the set was opened with them; encoded: the prompt, where it is not read by its index.
    """

    row: int
    task: str
    prompt: int
    target: Tensor
    references: list[Tensor]
    features: Tensor | None = None
    encoded: EncodedPrompt | None = None


@dataclass
class Choice:
    """A row's prompt and images, by index; references: image, and the size that it comes at."""

    row: int
    prompt: int
    image: int
    references: list[tuple[int, int]]


class EncodedSet:
    """Random access to the encoded samples; ``features``: also to the targets' vision features. Raises QI2Error where the folder lacks them."""

    online = False

    def __init__(self, folder: Path, features: bool = False) -> None:
        self._read_rows(folder)
        if (self.folder / ONLINE).exists():
            raise QI2Error(f"{folder} keeps no latents and hidden states (encode.online), which are read here; set encode.online=false and run stage `encode`")
        self.prompts = PromptStore(self.folder / PROMPTS)
        self.latents, self.features = _stores(self.folder, LATENTS), _stores(self.folder, FEATURES) if features else {}
        if features and not self.features:
            raise QI2Error(f"{folder} has no vision features, which an alignment needs; set encode.features=true and run stage `encode` again")
        self._index()

    def _read_rows(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / ROWS).exists():
            raise QI2Error(f"{folder} holds no encoded samples; run stage `encode`")
        self.rows = pd.read_parquet(self.folder / ROWS)
        self.version = file_sha256(self.folder / ROWS)

    def _index(self) -> None:
        self._prompts = {size: self.rows[f"prompts_{size}"].tolist() for size in self.latents}
        self._task = self.rows["task"].tolist()
        self._target, self._references = self.rows["image"].tolist(), self.rows["reference_images"].tolist()

    def __deepcopy__(self, memo: dict[int, object]) -> "EncodedSet":
        return self  # it is only read; a copy of the module that trains on it shares it

    def plan_rows(self, stage: int, sizes: Sequence[int], ti2i_share: float) -> PlanRows:
        """The rows that manifest ``stage`` keeps, for the data plan. QI2Error where edits have a share at a size at which none was encoded."""
        rows = self.rows[self.rows["stages"].map(lambda stages: stage in stages)]
        task, side = rows["task"].to_numpy(dtype=str), rows["side"].to_numpy()
        ready = {size: rows[f"prompts_{size}"].map(len).to_numpy() > 0 for size in sizes if size in self.latents}
        for size, encoded in ready.items():
            filled = (task == TI2I) & (side >= size)
            if ti2i_share > 0 and filled.any() and not encoded[filled].any():
                raise QI2Error(f"edits of stage {stage} were not encoded at {size} px; add {size} to encode.edit_sizes, or train edits at other sizes")
        return PlanRows(rows.index.to_numpy(), task, rows["kind"].fillna("").to_numpy(dtype=str), ready, self.version)

    def choose(self, row: int, size: int, rng: np.random.Generator) -> Choice:
        """What a row at a size (pixels) is made of, with one of its captions. Raises QI2Error where the row was not encoded at that size."""
        prompts = self._prompts[size][row]
        if not len(prompts):
            why = f"its picture is smaller, or encode lacks {size} in sizes or, for an edit, in edit_sizes"
            raise QI2Error(f"row {self.rows['id'][row]} was not encoded at {size} px: {why}")
        references = [(int(i), self.level(int(i), size)) for i in self._references[row]]
        return Choice(row, int(prompts[int(rng.integers(len(prompts)))]), int(self._target[row]), references)

    def sample(self, row: int, size: int, rng: np.random.Generator) -> Sample:
        """A row at a size (pixels), as `choose` says."""
        own = self.choose(row, size, rng)
        features = self.features[size][own.image] if self.features else None
        references = [self.latents[level][image] for image, level in own.references]
        return Sample(row, self._task[row], own.prompt, self.latents[size][own.image], references, features)

    def samples(self, rows: Sequence[int], size: int, draws: Sequence[np.random.Generator]) -> list[Sample]:
        """Several rows, each with a generator of its own."""
        return [self.sample(row, size, draw) for row, draw in zip(rows, draws, strict=True)]

    def level(self, image: int, size: int) -> int:
        """The size of a reference, which is not enlarged: the largest that it was encoded at, up to ``size``."""
        return max(s for s, store in self.latents.items() if s <= size and store.has(image))

    def condition(self, samples: Sequence[Sample], drop: Sequence[bool] | None = None) -> Condition:
        """Collated conditions; a dropped one becomes the empty prompt without references (unconditional dropout, Table 2)."""
        dropped = drop if drop is not None else [False] * len(samples)
        prompts = [self._prompt(s, gone) for s, gone in zip(samples, dropped, strict=True)]
        return collate(prompts, [[] if gone else s.references for s, gone in zip(samples, dropped, strict=True)])

    def tokens(self, samples: Sequence[Sample], drop: Sequence[bool]) -> int:
        """Of the targets and of the conditions, which count nothing where they are dropped."""
        targets = sum(sample.target[0].numel() for sample in samples)
        read = [sample for sample, gone in zip(samples, drop, strict=True) if not gone]
        texts = sum(self.prompts.length(sample.prompt) if sample.encoded is None else len(sample.encoded.text) for sample in read)
        return targets + texts + sum(latents[0].numel() for sample in read for latents in sample.references)

    def _prompt(self, sample: Sample, dropped: bool) -> EncodedPrompt:
        if sample.encoded is None:
            return self.prompts[EMPTY if dropped else sample.prompt]
        empty = self.prompts[EMPTY]
        return EncodedPrompt(empty.text.to(sample.encoded.text.device), empty.layout) if dropped else sample.encoded

    def unconditional(self, n: int) -> Condition:
        """n times the empty prompt."""
        return collate([self.prompts[EMPTY]] * n, [[]] * n)


def write(folder: Path, rows: pd.DataFrame, prompts: Sequence[EncodedPrompt], versions: Mapping[str, Any]) -> None:
    """Write an encoded folder, all but its latents. rows: id, task, kind, stages, side (px that the target fills), image, reference_images, prompts_SIZE."""
    write_rows(folder, rows, versions)
    save_file(PromptStore.pack(prompts), folder / PROMPTS)


def write_rows(folder: Path, rows: pd.DataFrame, versions: Mapping[str, Any]) -> None:
    """Of an encoded folder, what does not depend on whether latents and hidden states are kept."""
    rows.to_parquet(folder / ROWS, index=False)
    (folder / VERSIONS).write_text(json.dumps(versions, indent=1))


def latent_writer(folder: Path, size: int, channels: int, shapes: Sequence[tuple[int, int]], what: str = LATENTS) -> LatentWriter:
    """The folder's latents at ``size`` px, or its features; shapes: height and width in latent cells of every image, (0, 0) where it has none at this size."""
    return LatentWriter(folder / f"{what}_{size}.safetensors", channels, shapes)


def _stores(folder: Path, what: str) -> dict[int, LatentStore]:
    return {int(path.stem.split("_")[1]): LatentStore(path) for path in sorted(folder.glob(f"{what}_*.safetensors"))}
