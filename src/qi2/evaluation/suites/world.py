"""Fixed, seeded, held-out suites: the same prompts and noise seeds for every model, night after night.

Every item is drawn from combinations and words that training never sees, and is a pure function of (suite seed, kind, index):
asking for more prompts keeps the earlier ones. An item carries its exact truth (scene or edit), so that checking needs no judge.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.rng import key, numpy_rng
from qi2.data.world.captions import captions
from qi2.data.world.edits import Edit, sample_edit
from qi2.data.world.render import render
from qi2.data.world.sample import sample_scene
from qi2.data.world.scene import Scene
from qi2.evaluation.config import EvaluateConfig

SPLIT = "heldout"
DECIDES = ("seed", "size", "kinds", "prompts_per_kind", "edit_kinds", "edits_per_kind")  # what the prompts are made of
ATTEMPTS = 20  # draws per wanted scene before a kind counts as exhausted


@dataclass(frozen=True)
class Prompt:
    """What every suite's items have; ``noise_seed`` fixes the initial noise."""

    id: str
    kind: str
    prompt: str
    noise_seed: int


@dataclass(frozen=True)
class T2IItem(Prompt):
    """One text-to-image prompt and the scene that a right image shows."""

    scene: Scene


@dataclass(frozen=True)
class EditItem(Prompt):
    """One editing instruction with its reference scenes (the first is the one to edit) and exact target."""

    edit: Edit

    def references(self, size: int) -> list[Image.Image]:
        """The reference images in prompt order."""
        return [render(scene, size) for scene in self.edit.references]

    def target(self, size: int) -> Image.Image:
        """What a perfect edit looks like."""
        return render(self.edit.target, size)


def t2i_suite(config: EvaluateConfig) -> list[T2IItem]:
    """``prompts_per_kind`` held-out prompts of every kind, no scene twice, ordered by index and then kind: any prefix is mixed."""
    return _interleave([scene_items(config.seed, kind, config.prompts_per_kind, "t2i") for kind in config.kinds])


def vae_suite(config: EvaluateConfig) -> list[T2IItem]:
    """``vae_world`` held-out scenes over all kinds, in the same order as the prompts but from other random numbers."""
    share = -(-config.vae_world // len(config.kinds))
    return _interleave([scene_items(config.seed, kind, share, "vae") for kind in config.kinds])[: config.vae_world]


def edit_suite(config: EvaluateConfig) -> list[EditItem]:
    """``edits_per_kind`` held-out edits of every kind, ordered by index and then kind."""
    return _interleave([edit_items(config.seed, kind, config.edits_per_kind) for kind in config.edit_kinds])


def fingerprint(items: Sequence[Prompt]) -> str:
    """SHA-256 over ids, prompts and seeds: two results compare only where their suites have the same one."""
    text = json.dumps([[item.id, item.prompt, item.noise_seed] for item in items])
    return hashlib.sha256(text.encode()).hexdigest()


def remade(facts: Mapping[str, Any], where: str) -> tuple[list[T2IItem], list[EditItem]]:
    """The prompts and edits, with their truth, of results whose ``suite`` is ``facts``.

    Raises QI2Error where ``where``, the results, are of a user's own images, or where today's code draws other prompts from the same settings.
    """
    try:
        config = EvaluateConfig(**{item.name: facts[item.name] for item in fields(EvaluateConfig) if item.name in facts or item.name in DECIDES})
        hashes = facts["hashes"]
    except (KeyError, TypeError) as error:
        raise QI2Error(f"{where} does not say how its suite was drawn ({error!r}); run stage evaluate again") from error
    t2i, edits = t2i_suite(config), edit_suite(config)
    if hashes["t2i"] != fingerprint(t2i) or (edits and hashes["edit"] not in (fingerprint(edits), fingerprint([]))):
        raise QI2Error(f"{where} is of other prompts than its settings give today: of a user's images, or of another version; run stage evaluate again")
    return t2i, edits


def scene_items(seed: int, kind: str, n: int, suite: str, split: str = SPLIT) -> list[T2IItem]:
    """Up to ``n`` different scenes of a kind, fewer where it has no further one; suites of other names hold others."""
    items: dict[Scene, T2IItem] = {}
    for index in range(n * ATTEMPTS):
        rng = numpy_rng(seed, f"evaluate/{suite}/{kind}", index)
        scene = sample_scene(rng, kind, split=split)
        if scene not in items:
            noise = key(seed, f"evaluate/{suite}/noise/{kind}", index)
            items[scene] = T2IItem(f"{kind}-{len(items)}", kind, captions(scene, rng, 1)[0], noise, scene)
        if len(items) == n:
            break
    return list(items.values())


def edit_items(seed: int, kind: str, n: int, suite: str = "edit", split: str = SPLIT) -> list[EditItem]:
    """``n`` edits of a kind; suites of other names hold others."""
    items = []
    for index in range(n):
        edit = sample_edit(numpy_rng(seed, f"evaluate/{suite}/{kind}", index), kind, split)
        items.append(EditItem(f"{kind}-{index}", kind, edit.instruction, key(seed, f"evaluate/{suite}/noise/{kind}", index), edit))
    return items


Item = TypeVar("Item")


def _interleave(groups: Sequence[Sequence[Item]]) -> list[Item]:
    return [item for row in itertools.zip_longest(*groups) for item in row if item is not None]
