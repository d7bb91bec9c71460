"""Fixed, seeded, held-out suites: the same prompts and noise seeds for every model, night after night.

Every item is drawn from combinations and words that training never sees, and is a pure function of (suite seed, kind, index):
asking for more prompts keeps the earlier ones. An item carries its exact truth (scene or edit), so that checking needs no judge.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from qi2.core.rng import key, numpy_rng
from qi2.data.world.captions import captions
from qi2.data.world.edits import Edit, sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import Scene
from qi2.evaluation.config import EvaluateConfig

SPLIT = "heldout"


@dataclass(frozen=True)
class T2IItem:
    """One text-to-image prompt and the scene that a right image shows; ``noise_seed`` fixes the initial noise."""

    id: str
    kind: str
    prompt: str
    scene: Scene
    noise_seed: int


@dataclass(frozen=True)
class EditItem:
    """One editing instruction with its reference scenes (the first is the one to edit) and exact target."""

    id: str
    kind: str
    prompt: str
    edit: Edit
    noise_seed: int

    def references(self, size: int) -> list[Image.Image]:
        """The reference images in prompt order."""
        return [render(scene, size) for scene in self.edit.references]

    def target(self, size: int) -> Image.Image:
        """What a perfect edit looks like."""
        return render(self.edit.target, size)


def t2i_suite(config: EvaluateConfig) -> list[T2IItem]:
    """``prompts_per_kind`` held-out prompts of every kind, ordered by index and then kind, so that any prefix is mixed."""
    return [_t2i_item(config.seed, kind, index) for index in range(config.prompts_per_kind) for kind in config.kinds]


def edit_suite(config: EvaluateConfig) -> list[EditItem]:
    """``edits_per_kind`` held-out edits of every kind, ordered by index and then kind."""
    return [_edit_item(config.seed, kind, index) for index in range(config.edits_per_kind) for kind in config.edit_kinds]


def vae_suite(config: EvaluateConfig) -> list[T2IItem]:
    """``vae_world`` held-out scenes over all kinds, disjoint in randomness from the prompts."""
    kinds = config.kinds
    return [_t2i_item(config.seed, kinds[i % len(kinds)], i, "vae") for i in range(config.vae_world)]


def fingerprint(items: Sequence[T2IItem | EditItem]) -> str:
    """SHA-256 over ids, prompts and seeds: two results compare only where their suites have the same one."""
    text = json.dumps([[item.id, item.prompt, item.noise_seed] for item in items])
    return hashlib.sha256(text.encode()).hexdigest()


def _t2i_item(seed: int, kind: str, index: int, suite: str = "t2i") -> T2IItem:
    rng = numpy_rng(seed, f"evaluate/{suite}/{kind}", index)
    scene = sample_scene(rng, kind, split=SPLIT)
    return T2IItem(f"{kind}-{index}", kind, captions(scene, rng, 1)[0], scene, key(seed, f"evaluate/noise/{suite}/{kind}", index))


def _edit_item(seed: int, kind: str, index: int) -> EditItem:
    edit = sample_edit(numpy_rng(seed, f"evaluate/edit/{kind}", index), kind, SPLIT)
    return EditItem(f"{kind}-{index}", kind, edit.instruction, edit, key(seed, f"evaluate/noise/edit/{kind}", index))
