"""What the policy is asked for: encoded prompts with what a scorer needs to judge the answer."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from PIL import Image

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.data.world.captions import captions
from qi2.data.world.edits import Edit, sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import Scene
from qi2.models.condition import ConditionEncoder, EncodedPrompt
from qi2.models.vae import VAE
from qi2.rlhf.config import PromptsConfig
from qi2.training.fit import to_tensor

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


def kind_weights(config: PromptsConfig) -> dict[str, float]:
    """Share of every kind with a weight, T2I and TI2I together; they sum to one."""
    shares = [(config.kinds, 1 - config.edit_share, ""), (config.edit_kinds, config.edit_share, EDIT)]
    found: dict[str, float] = {}
    for kinds, share, prefix in shares:
        total = sum(kinds.values())
        found |= {prefix + kind: share * weight / total for kind, weight in kinds.items() if weight > 0 and share > 0}
    if not found:
        raise QI2Error("rlhf.prompts: no kind has a weight; give one in kinds, or in edit_kinds with an edit_share")
    return found


def world_prompts(config: PromptsConfig, size: int, seed: int) -> list[Prompt]:
    """``pool`` prompts of new random training scenes and edits, by the kinds' weights; not encoded yet."""
    prompts = []
    for kind, share in kind_weights(config).items():
        make = partial(_edit, kind.removeprefix(EDIT), size) if kind.startswith(EDIT) else partial(_scene, kind)
        prompts += [make(rng.numpy_rng(seed, f"rlhf/prompt/{kind}", i)) for i in range(max(1, round(config.pool * share)))]
    return prompts


def _scene(kind: str, draw: np.random.Generator) -> Prompt:
    scene = sample_scene(draw, kind, "train")
    return Prompt(kind, captions(scene, draw, 1)[0], scene)


def _edit(kind: str, size: int, draw: np.random.Generator) -> Prompt:
    edit = sample_edit(draw, kind, "train")
    return Prompt(EDIT + kind, edit.instruction, edit, [render(scene, size) for scene in edit.references])


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
        self.by_kind: dict[str, list[Prompt]] = {kind: [p for p in prompts if p.kind == kind] for kind in weights}
        self.kinds, self.weights = list(weights), np.array(list(weights.values()))

    def draw(self, draw: np.random.Generator, n: int, factors: np.ndarray) -> list[Prompt]:
        """``n`` prompts; a kind's weight is multiplied by its factor (one per kind, in the order of ``kinds``)."""
        chance = self.weights * factors
        kinds = draw.choice(len(self.kinds), size=n, p=chance / chance.sum())
        return [(found := self.by_kind[self.kinds[k]])[int(draw.integers(len(found)))] for k in kinds]
