"""What the policy is asked for: encoded prompts with what a scorer needs to judge the answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.data.shards import Sidecar, plain_nulls
from qi2.data.world.captions import captions
from qi2.data.world.edits import Edit, sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import Scene
from qi2.models.condition import ConditionEncoder
from qi2.models.pixels import to_tensor
from qi2.models.sequence import EncodedPrompt
from qi2.models.vae import VAE
from qi2.rlhf.config import PromptsConfig
from qi2.training.pictures import square

USER = "user"  # kind of a user's own rows, which name none
EDIT = "edit/"  # prefix of an edit's kind, so that scenes and edits share one list of kinds


@dataclass
class Prompt:
    """A T2I prompt or an editing instruction with its source images, and the truth where it is known."""

    kind: str
    text: str
    truth: Scene | Edit | None = None
    sources: list[Image.Image] = field(default_factory=list)
    encoded: EncodedPrompt = field(default_factory=lambda: EncodedPrompt(torch.zeros(0, 0), []))
    latents: list[torch.Tensor] = field(default_factory=list)  # of the sources, (64, h, w) each


def kind_weights(config: PromptsConfig, kinds: Mapping[str, float], edit_kinds: Mapping[str, float]) -> dict[str, float]:
    """Share of every kind with a weight, T2I and TI2I together; they sum to one. The names of edits' kinds get their prefix."""
    t2i, edits = ({k: w for k, w in weights.items() if w > 0} for weights in (kinds, edit_kinds))
    share = (config.edit_share if edits else 0.0) if t2i else 1.0
    found: dict[str, float] = {}
    for weights, part, prefix in ((t2i, 1 - share, ""), (edits, share, EDIT)):
        total = sum(weights.values())
        found |= {prefix + kind: part * weight / total for kind, weight in weights.items() if part > 0}
    if not found:
        raise QI2Error("rlhf.prompts: no kind has a weight; give one in kinds, or in edit_kinds with an edit_share")
    return found


def world_prompts(config: PromptsConfig, size: int, seed: int) -> "PromptPool":
    """``pool`` prompts of new random training scenes and edits, by the kinds' weights; not encoded yet."""
    weights = kind_weights(config, config.kinds, config.edit_kinds)
    prompts = [prompt for kind, share in weights.items() for prompt in _of_kind(kind, size, seed, "train", max(1, round(config.pool * share)))]
    return PromptPool(prompts, weights)


def heldout_prompts(config: PromptsConfig, size: int, seed: int, n: int) -> list[Prompt]:
    """About ``n`` prompts for a judge, as many of every kind with a weight, each with something that training never shows; not encoded yet."""
    kinds = kind_weights(config, config.kinds, config.edit_kinds)
    return [prompt for kind in kinds for prompt in _of_kind(kind, size, seed, "heldout", max(1, round(n / len(kinds))))]


def _of_kind(kind: str, size: int, seed: int, split: str, n: int) -> list[Prompt]:
    make = partial(_edit, kind.removeprefix(EDIT), size) if kind.startswith(EDIT) else partial(_scene, kind)
    stream = "prompt" if split == "train" else split
    return [make(split, rng.numpy_rng(seed, f"rlhf/{stream}/{kind}", i)) for i in range(n)]


def _scene(kind: str, split: str, draw: np.random.Generator) -> Prompt:
    scene = sample_scene(draw, kind, split)
    return Prompt(kind, captions(scene, draw, 1)[0], scene)


def _edit(kind: str, size: int, split: str, draw: np.random.Generator) -> Prompt:
    edit = sample_edit(draw, kind, split)
    return Prompt(EDIT + kind, edit.instruction, edit, [render(scene, size) for scene in edit.references])


def manifest_prompts(config: PromptsConfig, raw: Path, manifest: Path, size: int, seed: int) -> "PromptPool":
    """``pool`` prompts of a curated manifest's rows, with the truth where a row carries it; kinds without a weight of their own get 1."""
    import pandas as pd

    side, table = Sidecar.load(raw), plain_nulls(pd.read_parquet(manifest))
    table = table[table["captions"].map(len) > 0].assign(kind=lambda rows: rows["kind"].map(lambda kind: kind or USER))
    t2i, edits = (table.loc[table["task"] == task, "kind"].unique() for task in ("t2i", "ti2i"))
    weights = kind_weights(config, {k: config.kinds.get(k, 1.0) for k in t2i}, {k: config.edit_kinds.get(k, 1.0) for k in edits})
    prompts = []
    for kind, share in weights.items():
        rows = table[(table["task"] == ("ti2i" if kind.startswith(EDIT) else "t2i")) & (table["kind"] == kind.removeprefix(EDIT))]
        draw = rng.numpy_rng(seed, f"rlhf/manifest/{kind}")
        chosen = rows.iloc[draw.permutation(len(rows))[: max(1, round(config.pool * share))]]
        prompts += [_row(dict(row), kind, side, size, draw) for _, row in chosen.iterrows()]
    return PromptPool(prompts, weights)


def _row(row: dict[str, Any], kind: str, side: Sidecar, size: int, draw: np.random.Generator) -> Prompt:
    truth = Scene.from_json(row["scene"]) if row["scene"] else Edit.from_json(row["edit"]) if row["edit"] else None
    text = row["captions"][int(draw.integers(len(row["captions"])))]
    return Prompt(kind, text, truth, [square(side.image(name), size) for name in row["references"]])


@torch.no_grad()
def encode(prompts: list[Prompt], encoder: ConditionEncoder, vae: VAE) -> EncodedPrompt:
    """Fill in hidden states and source latents; returns the empty prompt, which is the unconditional branch."""
    encoded = encoder.encode(["", *(p.text for p in prompts)], [[], *(p.sources for p in prompts)])
    for prompt, states in zip(prompts, encoded[1:], strict=True):
        prompt.encoded = states
        prompt.latents = list(vae.encode(to_tensor(prompt.sources))) if prompt.sources else []
    return encoded[0]


class PromptPool:
    """Draws prompts by kind; the weights of kinds move during training."""

    def __init__(self, prompts: list[Prompt], weights: dict[str, float]) -> None:
        self.prompts = prompts
        self.by_kind: dict[str, list[Prompt]] = {kind: [p for p in prompts if p.kind == kind] for kind in weights}
        self.kinds, self.weights = list(weights), np.array(list(weights.values()))

    def hold_out(self, n: int) -> list[Prompt]:
        """Take about ``n`` prompts out for a judge, as many of every kind, but no more than half of what a kind has."""
        each, taken = max(1, round(n / len(self.kinds))), []
        for group in self.by_kind.values():
            for _ in range(min(each, len(group) // 2)):
                taken.append(group.pop())
        self.prompts = [prompt for group in self.by_kind.values() for prompt in group]
        return taken

    def draw(self, draw: np.random.Generator, n: int, factors: np.ndarray) -> list[Prompt]:
        """``n`` prompts; a kind's weight is multiplied by its factor (one per kind, in the order of ``kinds``)."""
        chance = self.weights * factors
        kinds = draw.choice(len(self.kinds), size=n, p=chance / chance.sum())
        return [(found := self.by_kind[self.kinds[k]])[int(draw.integers(len(found)))] for k in kinds]
