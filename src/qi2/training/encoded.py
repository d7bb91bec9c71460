"""What MMDiT training, RL and distillation read: latents and condition features, computed once by stage `encode`.

Folder: rows.parquet (one line per sample), latents_SIZE.safetensors (N, 64, h, w), prompts.safetensors (hidden states of all
prompts one after the other, with their layouts). Features are frozen, so caching them changes nothing but time.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from qi2.core.errors import QI2Error
from qi2.models.sequence import Condition, EncodedPrompt, collate

IMAGE = -1  # marks an image in a stored layout
EMPTY = 0  # index of the empty prompt without images: the unconditional branch


class PromptStore:
    """All encoded prompts as flat tensors."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.text, self.text_at = tensors["text"], tensors["text_at"].tolist()
        self.layout, self.layout_at = tensors["layout"].tolist(), tensors["layout_at"].tolist()

    def __len__(self) -> int:
        return len(self.text_at) - 1

    def __getitem__(self, i: int) -> EncodedPrompt:
        layout = [None if n == IMAGE else n for n in self.layout[self.layout_at[i] : self.layout_at[i + 1]]]
        return EncodedPrompt(self.text[self.text_at[i] : self.text_at[i + 1]].float(), layout)

    @staticmethod
    def pack(prompts: Sequence[EncodedPrompt]) -> dict[str, Tensor]:
        """Flat tensors; hidden states in fp16."""
        layouts = [[IMAGE if n is None else n for n in p.layout] for p in prompts]
        return {
            "text": torch.cat([p.text for p in prompts]).half(),
            "text_at": torch.tensor(np.cumsum([0] + [len(p.text) for p in prompts])),
            "layout": torch.tensor([n for layout in layouts for n in layout]),
            "layout_at": torch.tensor(np.cumsum([0] + [len(layout) for layout in layouts])),
        }


@dataclass
class Sample:
    """One training sample at one size: the prompt's index, target latents and reference latents, each (64, h, w)."""

    row: int
    prompt: int
    target: Tensor
    references: list[Tensor]


class EncodedSet:
    """Random access to the encoded samples."""

    def __init__(self, folder: Path) -> None:
        folder = Path(folder)
        if not (folder / "rows.parquet").exists():
            raise QI2Error(f"{folder} holds no encoded samples; run stage `encode`")
        self.rows = pd.read_parquet(folder / "rows.parquet")
        self.prompts = PromptStore(load_file(folder / "prompts.safetensors"))
        self.latents = {int(p.stem.split("_")[1]): load_file(p)["latents"] for p in sorted(folder.glob("latents_*.safetensors"))}
        self._prompts = {size: self.rows[f"prompts_{size}"].tolist() for size in self.latents}
        self._target, self._references = self.rows["image"].tolist(), self.rows["reference_images"].tolist()

    def __deepcopy__(self, memo: dict[int, object]) -> "EncodedSet":
        return self  # it is only read; a copy of the module that trains on it shares it

    def sample(self, row: int, size: int, rng: np.random.Generator) -> Sample:
        """A row at a size (pixels), with one of its captions. Raises QI2Error where the row was not encoded at that size."""
        prompts, latents = self._prompts[size][row], self.latents[size]
        if not len(prompts):
            raise QI2Error(f"edit {self.rows['id'][row]} was not encoded at {size} px; add {size} to encode.edit_sizes, or train edits at other sizes")
        references = [latents[int(i)].float() for i in self._references[row]]
        return Sample(row, int(prompts[int(rng.integers(len(prompts)))]), latents[self._target[row]].float(), references)

    def condition(self, samples: Sequence[Sample], drop: Sequence[bool] | None = None) -> Condition:
        """Collated conditions; a dropped one becomes the empty prompt without references (unconditional dropout, Table 2)."""
        dropped = drop if drop is not None else [False] * len(samples)
        prompts = [self.prompts[EMPTY if gone else s.prompt] for s, gone in zip(samples, dropped, strict=True)]
        return collate(prompts, [[] if gone else s.references for s, gone in zip(samples, dropped, strict=True)])

    def unconditional(self, n: int) -> Condition:
        """n times the empty prompt."""
        return collate([self.prompts[EMPTY]] * n, [[]] * n)


class Draw:
    """Draws rows: first the kind, each equally often or by its weight, then a row of that kind."""

    def __init__(self, rows: pd.DataFrame, weights: dict[str, float]) -> None:
        kinds = rows["kind"].fillna("").tolist()
        counts = Counter(kinds)
        share = np.array([weights.get(kind, 1.0) / counts[kind] for kind in kinds], dtype=float)
        self.index = rows.index.to_numpy()
        self.cumulative = np.cumsum(share) / max(share.sum(), 1e-9)

    def __call__(self, rng: np.random.Generator, n: int) -> list[int]:
        return [int(self.index[i]) for i in np.searchsorted(self.cumulative, rng.random(n), side="right").clip(max=len(self.index) - 1)]


def write(folder: Path, rows: pd.DataFrame, prompts: Sequence[EncodedPrompt], latents: dict[int, Tensor]) -> None:
    """Write an encoded folder."""
    rows.to_parquet(folder / "rows.parquet", index=False)
    save_file(PromptStore.pack(prompts), folder / "prompts.safetensors")
    for size, values in latents.items():
        save_file({"latents": values.half().contiguous()}, folder / f"latents_{size}.safetensors")
