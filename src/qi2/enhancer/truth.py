"""Whether a picture shows what a short prompt asks for, on the world: the exact checker, without the attributes that the prompt leaves open. Torch-free."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.data.world.checker import check, check_edit
from qi2.data.world.credit import credit
from qi2.data.world.edits import Edit
from qi2.data.world.palette import RELATIONS
from qi2.data.world.scene import Scene

OPEN = {"background": ("background",), "position": ("position",)}  # what was dropped: attributes that any picture then has


def shown(image: Image.Image, truth: Scene | Edit, dropped: Sequence[str] = (), source: Image.Image | None = None) -> dict[str, bool]:
    """Attribute to whether the picture has it, and ``all``; an edit has ``done`` and ``all``."""
    if isinstance(truth, Edit):
        found = check_edit(image, truth, source or image)
        return {"done": bool(found["done"]), "all": bool(found["all"])}
    if "places" in dropped:
        truth = _related(truth)
    free = {name for what in dropped for name in OPEN.get(what, ())}
    attributes = {name: bool(right) for name, right in check(image, truth).items() if name != "all" and name not in free}
    return attributes | {"all": all(attributes.values())}


def _related(scene: Scene) -> Scene:
    """The scene of two objects as one that only asks how they stand to each other."""
    one, other = scene.objects
    step = (np.sign(one.row - other.row), np.sign(one.col - other.col))
    relation = next(name for name, direction in RELATIONS.items() if direction == step)
    return replace(scene, kind="relation", relation=relation)


def consistency(image: Image.Image, truth: Scene | Edit, dropped: Sequence[str] = (), source: Image.Image | None = None) -> float:
    """`credit` of what the prompt did not leave open, in [0, 1]."""
    return credit(check_edit(image, truth, source or image) if isinstance(truth, Edit) else shown(image, truth, dropped))


def read_truth(task: str, text: str) -> Scene | Edit | None:
    """The scene or edit of a triplet; None where it is not known. Raises QI2Error for what is neither."""
    if not text:
        return None
    kind: type[Edit] | type[Scene] = Edit if task == "ti2i" else Scene
    try:
        return kind.from_json(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise QI2Error(f"the truth of a {task} triplet is no {kind.__name__}: {text[:80]!r}; write it with {kind.__name__}.to_json, or leave it out") from error
